#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shared library gives away what include/vmimg.h promises, and nothing else: check-symbols.sh LIBRARY
set -u
header=$(dirname "$0")/../include/vmimg.h
exported=$(nm -D --defined-only "$1" | awk '{print $3}' | sed 's/@.*//' | sort -u)
promised=$(tr '\n' ' ' <"$header" | grep -o 'VMIMG_API[^;#]*(' | grep -o 'vmimg_[a-z0-9_]* *(' |
	tr -d ' (' | sort -u)
bad=0
for name in $exported; do
	echo "$promised" | grep -qx "$name" || {
		echo "# $name is exported, and is not in vmimg.h"
		bad=1
	}
done
for name in $promised; do
	echo "$exported" | grep -qx "$name" || {
		echo "# $name is in vmimg.h, and is not exported"
		bad=1
	}
done
[ -n "$exported" ] || bad=1
[ $bad = 0 ] && echo "ok 1 - exported: what vmimg.h declares" || echo "not ok 1 - exported: what vmimg.h declares"
echo 1..1
exit $bad
