# SPDX-License-Identifier: Apache-2.0
"""What a medium is of, by osinfo-db's rules, held against osinfo-detect; and by rules of our own."""

import glob
import os
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "inspect"))
import common
from lib import env, harness
from lib.harness import check, equal, need, skip
from lib.process import check_bars, vmimg, vmimg_ok

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import sre_parse
    except ImportError:
        sre_parse = re._parser

FIELDS = {"system-id": (8, 32), "volume-id": (40, 32), "publisher-id": (318, 128),
          "application-id": (574, 128)}  # of the primary descriptor
RULES = """<libosinfo version="0.0.1"><os id="http://example.org/test/1"><short-id>test1</short-id>
<name>Test &amp; Co 1</name><version>1</version>
<media arch="x86_64"><iso><volume-id>TEST_\\d{2}</volume-id></iso></media>
<media arch="aarch64" live="true"><iso><volume-id>TEST_\\d{2}</volume-id><system-id>^ARM$</system-id></iso>
<kernel>boot/vmlinuz</kernel><initrd>boot/initrd.gz</initrd></media>
<media arch="all"><iso><volume-id>(?!a)b</volume-id></iso></media></os></libosinfo>"""


def sample(pattern):
    """A text that a pattern matches."""
    out = []
    for kind, value in pattern:
        name = str(kind)
        if name == "LITERAL":
            out.append(chr(value))
        elif name == "ANY":
            out.append("x")
        elif name == "IN":
            out.append({"RANGE": lambda v: chr(v[0]), "LITERAL": chr,
                        "CATEGORY": lambda v: "x" if "NOT" in str(v) else "7"}[str(value[0][0])](value[0][1]))
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            out.append(sample(value[2]) * max(value[0], 1))
        elif name == "SUBPATTERN":
            out.append(sample(value[-1]))
        elif name == "BRANCH":
            out.append(sample(value[1][0]))
        elif name not in ("AT",):
            raise ValueError(name)
    return "".join(out)


def write_iso(t, fields):
    path = t.path("medium.iso")
    if not os.path.exists(path):
        boot = common.put(t.tmp, "boot.bin", bytes(2048))  # osinfo-detect wants one
        tree = t.path("tree")
        common.put(tree, "file", "x")
        vmimg_ok("iso", "create", "-o", path, "--el-torito-bios", boot, tree)
    with open(path, "r+b") as file:
        for key, (at, size) in FIELDS.items():
            file.seek(16 * 2048 + at)
            file.write(fields.get(key, "").encode()[:size].ljust(size))
    return path


def media():
    for path in sorted(glob.glob("/usr/share/osinfo/os/*/*.xml")):
        for entry in xml.parse(path).getroot().iter("iso"):
            rules = {key: entry.findtext(key) for key in FIELDS if entry.findtext(key)}
            if "volume-id" not in rules or entry.findtext("volume-size"):
                continue
            try:
                fields = {key: sample(sre_parse.parse(rule)) for key, rule in rules.items()}
            except (ValueError, KeyError, re.error):
                continue
            if all(len(fields[key]) <= FIELDS[key][1] for key in fields):
                yield os.path.basename(path), fields


def test_as_osinfo_detect(t):
    need("osinfo-detect")
    known = list(media())
    if len(known) < 100:
        skip("osinfo-db is not installed")
    for name, fields in harness.part(known[::len(known) // 6]):
        with t.sub(f"{name} {fields['volume-id']}"):
            path = write_iso(t, fields)
            done = subprocess.run([env.find("osinfo-detect"), path], capture_output=True, check=True)
            said = done.stdout.decode()
            medium = vmimg_ok("inspect", "--json", path).json()["iso"].get("medium")
            check(medium and medium.get("variant", medium["name"]) in said, f"{medium}, and osinfo-detect: {said}")
            if "(" in said and medium["architecture"] != "all":
                check(f"({medium['architecture']})" in said, f"{medium['architecture']}: {said}")


def test_rules(t):
    common.put(t.tmp, "db/os/example.org/test.xml", RULES)
    with_db = {"OSINFO_SYSTEM_DIR": t.path("db")}
    cases = (({"volume-id": "TEST_12"}, "x86_64"), ({"volume-id": "TEST_12", "system-id": "ARM"}, "aarch64"),
             ({"volume-id": "TEST_1"}, None), ({"volume-id": "other"}, None), ({}, None))
    for fields, arch in cases:
        with t.sub(str(fields)):
            report = vmimg_ok("inspect", "--json", write_iso(t, fields), extra_env=with_db).json()["iso"]
            equal(report.get("medium", {}).get("architecture"), arch)
            if arch == "aarch64":
                equal(report["medium"], {"id": "http://example.org/test/1", "short-id": "test1",
                                         "name": "Test & Co 1", "version": "1", "architecture": arch,
                                         "live": True, "kernel": "boot/vmlinuz", "initrd": "boot/initrd.gz"})
    with t.sub("no data base"):
        result = vmimg("inspect", "--json", write_iso(t, {"volume-id": "TEST_12"}),
                       extra_env={"OSINFO_SYSTEM_DIR": t.path("nothing")})
        equal((result.code, result.err, "medium" in result.json()["iso"]), (0, b"", False))
    with t.sub("a damaged data base"):
        common.put(t.tmp, "db/os/example.org/test.xml", RULES[:300])
        result = vmimg("inspect", "--json", write_iso(t, {"volume-id": "TEST_12"}), extra_env=with_db)
        equal((result.code, "medium" in result.json()["iso"]), (0, False))
        check_bars(result)


if __name__ == "__main__":
    harness.main()
