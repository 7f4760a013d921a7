#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make fuzz MINUTES=n: libFuzzer on the parsers, with AddressSanitizer and UBSan, starting from what
# tests/fuzz/seeds.py makes. Each target (named ones: tools/fuzz.sh MINUTES TARGET...) gets its share of
# the time. What is found lies in build-fuzz/found: tests/fuzz/corpus.py --unpack makes an image of it.
# Corpora grow from run to run, and the logs with them; FUZZ names another folder than build-fuzz.
set -eu
minutes=${1:-1}
[ $# = 0 ] || shift
cd "$(dirname "$0")/.."
fuzz=${FUZZ:-$PWD/build-fuzz}
tools/deps.sh fuzz
[ -f "$fuzz/build.ninja" ] || CC=clang meson setup "$fuzz" -Db_sanitize=address,undefined \
	-Db_lundef=false -Dfuzz=true >"$fuzz.log" 2>&1 || { cat "$fuzz.log"; exit 1; }
meson compile -C "$fuzz" >"$fuzz.log" 2>&1 || { cat "$fuzz.log"; exit 1; }
rm -f "$fuzz.log"
corpus() { PYTHONPATH=tests VMIMG_BUILD=$fuzz VMIMG=$fuzz/vmimg python3 tests/fuzz/corpus.py "$@"; }
targets=${*:-$(corpus --targets)}
share=$((minutes * 60 / $(echo "$targets" | wc -w)))
mkdir -p "$fuzz/found" "$fuzz/fuzzed"
bad=0
for target in $targets; do
	folder=$fuzz/corpus-$target log=$fuzz/fuzzed/$target.log now=$fuzz/fuzzed/$target.now
	[ -d "$folder" ] || corpus --make "$folder" "$target"
	printf 'fuzz: %s for %s s\n' "$target" "$share"
	VMIMG_FUZZ_TARGET=$target UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$fuzz/tests/fuzz-target" -max_total_time="$share" -max_len=1048576 \
		-timeout=25 -report_slow_units=3 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
		-artifact_prefix="$fuzz/found/$target-" "$folder" >"$now" 2>&1 || { bad=1; tail -n 40 "$now"; }
	grep -E 'stat::(number_of_executed_units|average_exec)' "$now" || true
	cat "$now" >>"$log"
	rm "$now"
done
exit $bad
