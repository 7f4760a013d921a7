#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The order of the layers, read from the #include lines: each includes only what stands to its left,

    util < io, codec < disk < format/*, bundle/*, inspect < engine, serve, fleet < api, cli

and a room of format/ or bundle/ never another room.
"""

import os
import re
import sys

SRC = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
RANKS = [{"util"}, {"io", "codec"}, {"disk"}, {"format", "bundle", "inspect"},
         {"engine", "serve", "fleet"}, {"api", "cli"}]
ROOMS = {"format", "bundle"}
# Within one rank, who may include whom.
BESIDE = {("codec", "io"), ("serve", "engine"), ("fleet", "engine"), ("inspect", "io")}


def rank(layer):
    return next((i for i, layers in enumerate(RANKS) if layer in layers), None)


def split(path):
    """Layer and room of a path below src/: format/qcow2/map.c is ("format", "qcow2")."""
    parts = path.split("/")
    room = parts[1] if parts[0] in ROOMS and len(parts) > 2 else None
    return parts[0], room


def complaint(source, target):
    """Why source may not include target; None when it may."""
    (layer, room), (other, other_room) = split(source), split(target)
    if rank(other) is None:
        return f"{other} is no layer that check-layers.py knows"
    if layer == other:
        if other_room and other_room != room:
            return f"room {room or layer} reaches into room {other_room}"
        return None
    if rank(other) > rank(layer):
        return f"{layer} reaches up to {other}"
    if rank(other) == rank(layer) and (layer, other) not in BESIDE:
        return f"{layer} reaches across to {other}"
    if other_room and layer != other:
        return f"{layer} reaches into room {other_room}"
    return None


def complaints():
    for folder, _, names in os.walk(SRC):
        for name in sorted(names):
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.relpath(os.path.join(folder, name), SRC)
            with open(os.path.join(SRC, path), encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                    if not found or found[1] == "vmimg.h":
                        continue
                    target = os.path.normpath(found[1])
                    if "/" not in target:  # beside the file itself
                        target = os.path.join(os.path.dirname(path), target)
                    why = complaint(path, target)
                    if why:
                        yield f"src/{path}:{number}: {why}"


def main():
    found = list(complaints())
    for line in found:
        print("#", line)
    print("not ok" if found else "ok", "1 - each layer includes only what stands below it")
    print("1..1")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
