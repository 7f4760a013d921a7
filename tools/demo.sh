#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make demo [IMAGE=path]: installs what is needed, builds, and takes a disk through every format.
set -eu
build=${1:-build} image=${2:-}
# A path as the user typed it, before the folder changes.
[ -z "$image" ] || image=$(realpath -- "$image")
cd "$(dirname "$0")/.."
tools/deps.sh demo
[ -f "$build/build.ninja" ] || meson setup "$build" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
meson compile -C "$build" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
rm -f "$build.log"
exec python3 tools/demo.py "$build/vmimg" "$image"
