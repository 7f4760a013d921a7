# SPDX-License-Identifier: Apache-2.0
"""
Real images that other software made (lib/corpus.py): whatever the format, the guest's bytes must be those
that the peers agree on.
"""

from lib import corpus, disks, harness, process
from lib.harness import check, equal, skip

LARGE = 64 << 30  # bytes of virtual size; larger disks are compared by their blocks that are not zero


def read_all(entry, folder):
    """Checks one file: what it decodes to, through digest or through a raw copy."""
    if not entry.content:
        skip("no agreed content")
    if entry.path.endswith(".uu"):
        skip("in an outer wrapper that is not looked into")
    image = entry.unwrap(f"{folder}/unwrapped")
    if entry.content.startswith("nz64k:") or entry.size > LARGE:
        raw = f"{folder}/out.raw"
        process.vmimg_ok("convert", "-O", "raw", image, raw, timeout=120)
        equal(entry.digest(raw), entry.content, "content")
    else:
        equal(process.guest_sha256(image), entry.content, "content")


def test_content(t):
    """Files of the formats that this build has, by detection alone."""
    for entry in harness.part(corpus.entries(*process.formats()), 2):
        with t.sub(f"{entry.format}: {entry.path}"), t.folder() as folder:
            read_all(entry, folder)


def test_info_keeps_to_the_bars(t):
    """Whatever the file is: info answers, in bounds, and on one line when it is an error."""
    for entry in harness.part(corpus.entries()):
        with t.sub(entry.path):
            result = process.vmimg("info", "--json", entry.file)
            process.check_bars(result)
            check(result.code in (0, 4, 5, 6), str(result))
            if result.code:
                process.check_one_line(result)


if __name__ == "__main__":
    harness.main()
