#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make fuzz MINUTES=n: libFuzzer on the parsers, with AddressSanitizer and UBSan, starting from the
# vectors. Each format with vectors gets its share of the time; what is found lies in build-fuzz/found.
set -eu
minutes=${1:-1}
cd "$(dirname "$0")/.."
tools/deps.sh fuzz
[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz -Db_sanitize=address,undefined \
	-Db_lundef=false -Dfuzz=true >build-fuzz.log 2>&1 || { cat build-fuzz.log; exit 1; }
meson compile -C build-fuzz >build-fuzz.log 2>&1 || { cat build-fuzz.log; exit 1; }
rm -f build-fuzz.log
formats=$(find tests/vectors -mindepth 1 -maxdepth 1 -type d | sed 's|.*/||' | sort)
share=$((minutes * 60 / $(echo "$formats" | wc -w)))
mkdir -p build-fuzz/found
bad=0
for format in $formats; do
	PYTHONPATH=tests VMIMG_BUILD=$PWD/build-fuzz VMIMG=$PWD/build-fuzz/vmimg \
		python3 tests/fuzz/corpus.py --make "build-fuzz/corpus-$format" "$format"
	printf 'fuzz: %s for %s s\n' "$format" "$share"
	[ "$format" = probe ] && name= || name=$format
	env ${name:+VMIMG_FUZZ_FORMAT=$name} build-fuzz/tests/fuzz-target -max_total_time="$share" \
		-max_len=4194304 -timeout=25 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="build-fuzz/found/$format-" "build-fuzz/corpus-$format" \
		>"build-fuzz/$format.log" 2>&1 || { bad=1; tail -n 40 "build-fuzz/$format.log"; }
	grep -E 'stat::(number_of_executed_units|average_exec)' "build-fuzz/$format.log" || true
done
exit $bad
