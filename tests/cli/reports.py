# SPDX-License-Identifier: Apache-2.0
"""info, map, measure, compare and check, held against what qemu-img says of the same images."""

import os

from lib import disks, harness, process, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok


def images(t):
    """A few images that qemu-img made, by name: {name: path}. All lie in one folder."""
    harness.need("qemu-img", "qemu-io")
    raw = disks.pattern(t.path("disk.raw"), 5 << 20, seed=7, data=1 << 20)
    found = {"raw": raw}
    if "qcow2" not in process.formats():
        return found
    found["qcow2"] = qemu.convert(raw, t.path("plain.qcow2"), "raw", "qcow2")
    found["packed"] = qemu.convert(raw, t.path("packed.qcow2"), "raw", "qcow2", "-c")
    found["empty"] = qemu.create(t.path("empty.qcow2"), "qcow2", 1 << 30, cluster_size=4096)
    found["subclusters"] = qemu.convert(raw, t.path("sub.qcow2"), "raw", "qcow2", extended_l2="on")
    found["old"] = qemu.convert(raw, t.path("old.qcow2"), "raw", "qcow2", compat="0.10")
    found["zeroed"] = qemu.create(t.path("zeroed.qcow2"), "qcow2", 4 << 20)
    qemu.io(found["zeroed"], "write 0 1M", "write -z 64k 128k", "discard 512k 64k", fmt="qcow2")
    snap = found["snapshots"] = qemu.convert(raw, t.path("snap.qcow2"), "raw", "qcow2")
    qemu.img("snapshot", "-c", "first", snap)
    qemu.img("snapshot", "-c", "second one", snap)
    qemu.img("bitmap", "--add", "-g", "128k", snap, "since")
    over = found["overlay"] = t.path("over.qcow2")
    qemu.img("create", "-q", "-f", "qcow2", "-b", "plain.qcow2", "-F", "qcow2", over)
    qemu.io(over, "write -P 7 65536 65536", "write -z 262144 65536", fmt="qcow2")
    return found



def test_info_json(t):
    for name, path in images(t).items():
        with t.sub(name):
            ours = vmimg_ok("info", "--json", path)
            theirs = qemu.img("info", "--output=json", path).json()
            report = ours.json()
            equal(next(iter(report)), "virtual-size", "first field")
            equal(report["schema"], "vmimg.info/1", "schema")
            theirs.pop("children", None)
            for key, value in theirs.items():
                if key == "snapshots":
                    for mine, other in zip(report[key], value, strict=True):
                        equal({k: mine.get(k) for k in other}, other, "a snapshot")
                else:
                    equal(report.get(key), value, key)


def test_info_human(t):
    for name, path in images(t).items():
        with t.sub(name):
            ours, theirs = vmimg_ok("info", path).text, qemu.img("info", path).text
            extra = [line for line in theirs.splitlines() if line not in ours.splitlines()]
            equal(extra, [], "lines that only qemu-img has")
            head = theirs.split("Format specific")[0]
            equal(ours[:len(head)], head, "the beginning")


def test_info_chain(t):
    found = images(t)
    if "overlay" not in found:
        harness.skip("needs qcow2")
    ours = vmimg_ok("info", "--json", "--chain", found["overlay"]).json()
    theirs = qemu.img("info", "--output=json", "--backing-chain", found["overlay"]).json()
    equal([(x["filename"], x["format"], x["virtual-size"]) for x in ours],
          [(x["filename"], x["format"], x["virtual-size"]) for x in theirs], "layers")
    one = vmimg_ok("info", "--json", found["overlay"]).json()
    equal([(r["kind"], r["filename"], r["allowed"]) for r in one["references"]],
          [("backing", "plain.qcow2", True)], "references")
    none = vmimg_ok("info", "--json", "--untrusted", found["overlay"]).json()
    equal([r["allowed"] for r in none["references"]], [False], "references of a stranger's image")
    equal(vmimg("info", "--chain", "--refs=none", found["overlay"]).code, 5, "a chain without references")


def plain(entries):
    """
    What both programs tell of a map. qemu-img 7.2 does not say what is compressed, gives unused parts of
    a cluster an offset, and for some images only looks whether data lies in holes of the file.
    """
    merged = []
    for entry in entries:
        entry = {k: v for k, v in entry.items() if k != "compressed"}
        if entry["data"]:
            entry["zero"] = False
        elif not entry["present"]:
            entry.pop("offset", None)
        last = merged[-1] if merged else {}
        same = all(last.get(k) == entry[k] for k in ("depth", "present", "zero", "data"))
        follows = "offset" in last and last["offset"] + last["length"] == entry.get("offset")
        if same and (follows or "offset" not in last and "offset" not in entry):
            last["length"] += entry["length"]
        else:
            merged.append(entry)
    return merged


def test_map(t):
    for name, path in images(t).items():
        with t.sub(name):
            for options in [], ["-s", "64k", "-l", "1M"], ["--start-offset=1M"], ["--max-length=4096"]:
                ours = vmimg_ok("map", "--chain", "--json", *options, path).json()
                theirs = qemu.img("map", "--output=json", *options, path).json()
                equal(plain(ours), plain(theirs), f"map {options}")
            packed = any(entry["compressed"] for entry in vmimg_ok("map", "--json", path).json())
            equal(packed, name == "packed", "compressed stretches")
            if name not in ("packed", "snapshots"):
                equal(vmimg_ok("map", "--chain", path).text, qemu.img("map", path).text, "human map")


def test_map_opens_nothing(t):
    found = images(t)
    if "overlay" not in found:
        harness.skip("needs qcow2")
    os.rename(t.path("plain.qcow2"), t.path("moved.qcow2"))
    entries = vmimg_ok("map", "--json", found["overlay"]).json()
    equal({e["depth"] for e in entries}, {0}, "depths")
    equal([e["start"] for e in entries if e["data"]], [65536], "data of the layer itself")
    check(any(not e["present"] for e in entries), "what the layer lacks")
    check(vmimg("map", "--json", "--chain", found["overlay"]).code != 0, "a missing backing file")


def test_measure(t):
    for name, path in images(t).items():
        for target in process.formats(writable=True):
            if target not in ("raw", "qcow2"):
                continue
            with t.sub(f"{name} to {target}"):
                ours = vmimg_ok("measure", "--json", "-O", target, path).json()
                theirs = qemu.img("measure", "--output=json", "-O", target, path).json()
                for key in ("required", "fully-allocated"):
                    equal(ours[key], theirs[key], key)
                out = t.path("measured")
                vmimg_ok("convert", "--force", "-O", target, path, out)
                # bitmaps are carried over as well, and not counted
                check(name == "snapshots" or os.path.getsize(out) <= ours["required"],
                      f"became {os.path.getsize(out)}, more than {ours['required']}")
    ours = vmimg_ok("measure", "--size", "3G").text
    equal(ours, qemu.img("measure", "--size", "3G").text, "human")


def both(*words):
    """The same qemu-img and vmimg command, as (exit code, standard output)."""
    results = run("qemu-img", *words), vmimg(*words)
    return [(r.code, r.text) for r in results]


def test_compare(t):
    found = images(t)
    raw = found["raw"]
    changed = disks.copy(raw, t.path("changed.raw"))
    with open(changed, "r+b") as file:
        file.seek(3000001)
        byte = file.read(1)
        file.seek(3000001)
        file.write(bytes([byte[0] ^ 1]))
    longer = disks.copy(raw, t.path("longer.raw"))
    os.truncate(longer, 6 << 20)
    full = disks.copy(longer, t.path("full.raw"))
    with open(full, "r+b") as file:
        file.seek((6 << 20) - 1)
        file.write(b"x")
    for words in ([raw, raw], [raw, changed], [changed, raw], [raw, longer], [longer, raw],
                  [raw, full], [full, raw], ["-q", raw, changed], [t.path("none"), raw],
                  [raw, t.path("none")], ["-s", raw, longer], ["-s", raw, raw],
                  *([path, raw] for name, path in found.items()
                    if name in ("qcow2", "packed", "snapshots", "old"))):
        with t.sub(" ".join(words).replace(t.tmp + "/", "")):
            theirs, ours = both("compare", *words)
            equal(ours, theirs, "exit code and text")
    report = vmimg("compare", "--json", raw, changed)
    equal(report.code, 1, "exit code")
    equal((report.json()["identical"], report.json()["offset"], report.json()["schema"]),
          (False, 3000001, "vmimg.compare/1"), "JSON")
    equal(vmimg("compare", "--bogus", raw, raw).code, 2, "usage")


def test_check(t):
    for name, path in images(t).items():
        with t.sub(name):
            theirs, ours = both("check", path)
            equal(ours, theirs, "exit code and text")
            if name == "raw":
                continue
            report = vmimg_ok("check", "--json", path).json()
            for key, value in qemu.img("check", "--output=json", path).json().items():
                equal(report.get(key), value, key)
            equal((report["schema"], report["findings"]), ("vmimg.check/1", []), "ours")


def test_check_finds(t):
    found = images(t)
    if "qcow2" not in found:
        harness.skip("needs qcow2")
    leaky = disks.copy(found["qcow2"], t.path("leaky.qcow2"))
    end = os.path.getsize(leaky)
    with open(leaky, "r+b") as file:  # a refcount for a cluster that nothing uses
        file.seek(48)
        table = int.from_bytes(file.read(8), "big")
        file.seek(table)
        block = int.from_bytes(file.read(8), "big")
        file.seek(block + 2 * (end // 65536))
        file.write(b"\0\1")
        file.truncate(end // 65536 * 65536 + 65536)
    theirs, ours = both("check", leaky)
    equal((theirs[0], ours[0]), (3, 3), "exit code of a leak")
    check("1 leaked clusters were found on the image." in ours[1], ours[1])
    equal(vmimg("check", "--json", leaky).json()["leaks"], 1, "leaks")
    equal(vmimg("check", "-q", leaky).out, b"", "quiet")
    equal(vmimg("check", t.path("none")).code, 1, "no such file")


def test_snapshot_and_bitmap_lists(t):
    found = images(t)
    if "snapshots" not in found:
        harness.skip("needs qcow2")
    snap = found["snapshots"]
    theirs = qemu.img("snapshot", "-l", snap).text
    equal(vmimg_ok("snapshot", "-l", snap).text, theirs, "snapshot -l")
    equal(vmimg_ok("snapshot", "list", snap).text, theirs, "snapshot list")
    names = [s["name"] for s in vmimg_ok("snapshot", "list", "--json", snap).json()["snapshots"]]
    equal(names, ["first", "second one"], "names")
    equal(vmimg_ok("snapshot", "-l", found["qcow2"]).text, "", "no snapshots")
    report = vmimg_ok("bitmap", "list", "--json", snap).json()
    equal([(b["name"], b["granularity"], b["flags"]) for b in report["bitmaps"]],
          [("since", 131072, ["auto"])], "bitmaps")


def test_not_images(t):
    """What is no file is told at once, whatever the verb."""
    os.mkfifo(t.path("fifo"))
    os.mkdir(t.path("folder"))
    for what in (t.path("fifo"), t.path("folder"), "/dev/zero"):
        for verb in ("info", "check", "map", "digest", "compare", "measure", "convert"):
            with t.sub(f"{verb} {os.path.basename(what)}"):
                more = {"compare": [what], "convert": ["-O", "raw", t.path("out")]}.get(verb, [])
                result = vmimg(verb, what, *more, timeout=5)
                equal(result.code, 2 if verb == "compare" else 4, str(result))
                process.check_one_line(result, verb)
    equal(sorted(os.listdir(t.tmp)), ["fifo", "folder"], "files")


def test_virtual_size_limit(t):
    vmimg_ok("create", "-q", t.path("a.raw"), "1M")
    for verb in ("info", "map", "digest", "convert", "measure"):
        more = ["-O", "raw", t.path("out")] if verb == "convert" else []
        equal(vmimg(verb, "--max-virtual-size=1023k", t.path("a.raw"), *more).code, 6, verb)
        equal(vmimg(verb, "--max-virtual-size=1M", t.path("a.raw"), *more).code, 0, verb)


if __name__ == "__main__":
    harness.main()
