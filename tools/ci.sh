#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that has to hold, in named stages: tools/ci.sh [STAGE…]; `check` is the usual set.
#
#   deps        install what is missing
#   build-gcc   with warnings as errors, into build-check/
#   build-clang the same with clang
#   test        all tests, on build-check/
#   asan-ubsan  unit tests, vectors, fuzz corpus, failing calls, and crashes of QCOW2 and of repair under
#               AddressSanitizer and UBSan
#   tsan        unit tests and conversions by many threads under ThreadSanitizer
#   install     into an empty folder, and a program built against it
#
# Ends with the line "N passed, N failed" (", N skipped" where some were) and exit code 0 or 1.
set -u
cd "$(dirname "$0")/.."
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT
passed=0 failed=0 skipped=0

say() {
	printf '%s\n' "== $*"
}

# Adds one named result to the count.
count() {
	if [ "$1" = 0 ]; then passed=$((passed + 1)); else
		failed=$((failed + 1))
		echo "stage: $2" >>"$failures"
	fi
}

setup() {
	folder=$1
	shift
	[ -f "$folder/build.ninja" ] || meson setup "$folder" "$@" >"$folder.log" 2>&1 || {
		cat "$folder.log"
		return 1
	}
}

compile() {
	meson compile -C "$1" >"$1.log" 2>&1 || {
		tail -n 60 "$1.log"
		return 1
	}
	rm -f "$1.log"
}

# The tests of a build folder, each of their lines counted.
run_tests() {
	folder=$1
	shift
	meson test -C "$folder" --no-rebuild --print-errorlogs "$@"
	meson_code=$?
	totals=$(python3 tools/count-tests.py "$folder/meson-logs/testlog.json" "$meson_code" \
		2>>"$failures")
	set -- $totals
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

stage_deps() {
	tools/deps.sh test
	count $? deps
	tools/deps.sh boot || say "without what the boot tests need: they will be skipped"
}

stage_build_gcc() {
	CC=gcc setup build-check -Dwerror=true && compile build-check
	count $? build-gcc
}

stage_build_clang() {
	CC=clang setup build-clang -Dwerror=true && compile build-clang
	count $? build-clang
}

stage_test() {
	run_tests build-check
}

stage_asan_ubsan() {
	CC=gcc setup build-asan -Db_sanitize=address,undefined -Db_lundef=false &&
		compile build-asan
	count $? build-asan
	VMIMG_SLACK=8 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		run_tests build-asan -t 8 --suite unit --suite vectors --suite fuzz-corpus --suite fault
	VMIMG_SLACK=8 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		run_tests build-asan -t 8 crash-qcow2 crash-repair format-luks-luks
}

stage_tsan() {
	CC=gcc setup build-tsan -Db_sanitize=thread -Db_lundef=false && compile build-tsan
	count $? build-tsan
	TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1 VMIMG_SLACK=20 run_tests build-tsan \
		-t 20 --suite unit --suite determinism
}

stage_install() {
	tools/check-install.sh build-check
	count $? install
}

[ $# -gt 0 ] || set -- check
stages=
for stage; do
	case $stage in
	check) stages="$stages deps build-gcc test install build-clang asan-ubsan tsan" ;;
	*) stages="$stages $stage" ;;
	esac
done
for stage in $stages; do
	say "$stage"
	"stage_$(echo "$stage" | tr - _)"
done
sed 's/^/FAILED: /' "$failures"
line="$passed passed, $failed failed"
[ "$skipped" = 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
