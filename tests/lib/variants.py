# SPDX-License-Identifier: Apache-2.0
"""The ways each format can be written: what the tests go through."""

from lib import process

# Format: {label: arguments of convert}
WAYS = {
    "raw": {
        "plain": [],
        "falloc": ["-o", "preallocation=falloc"],
        "full": ["-o", "preallocation=full"],
    },
    "qcow2": {
        "plain": [],
        "zlib": ["-c"],
        "zlib-fast": ["-c", "--level=fast"],
        "zlib-best": ["-c", "--level=best"],
        "zstd": ["-c", "-o", "compression_type=zstd"],
        "zstd-fast": ["-c", "--level=fast", "-o", "compression_type=zstd"],
        "compat-0.10": ["-o", "compat=0.10"],
        "compat-0.10-zlib": ["-c", "-o", "compat=0.10"],
        "extended-l2": ["-o", "extended_l2=on"],
        "extended-l2-zlib": ["-c", "-o", "extended_l2=on"],
        "extended-l2-16k": ["-o", "extended_l2=on,cluster_size=16k"],
        "metadata": ["-o", "preallocation=metadata"],
        "falloc": ["-o", "preallocation=falloc"],
        "full": ["-o", "preallocation=full"],
        "data-file": ["-o", "data_file=data.bin"],
        "data-file-raw": ["-o", "data_file=data.bin,data_file_raw=on"],
        "lazy-refcounts": ["-o", "lazy_refcounts=on"],
        **{f"cluster-{size}": ["-o", f"cluster_size={size}"]
           for size in ("512", "1k", "4k", "32k", "256k", "2M")},
        "cluster-512-zlib": ["-c", "-o", "cluster_size=512"],
        "cluster-2M-zstd": ["-c", "-o", "cluster_size=2M,compression_type=zstd"],
        **{f"refcount-{bits}": ["-o", f"refcount_bits={bits}"] for bits in (1, 2, 4, 8, 32, 64)},
    },
    "vmdk": {
        "plain": [],
        "streamOptimized": ["-o", "subformat=streamOptimized"],
        "streamOptimized-fast": ["-o", "subformat=streamOptimized", "--level=fast"],
        "monolithicFlat": ["-o", "subformat=monolithicFlat"],
        "twoGbMaxExtentSparse": ["-o", "subformat=twoGbMaxExtentSparse"],
        "twoGbMaxExtentFlat": ["-o", "subformat=twoGbMaxExtentFlat"],
        "zeroed-grain": ["-o", "zeroed_grain=on"],
        "lsilogic": ["-o", "adapter_type=lsilogic,hwversion=10"],
    },
    "vhd": {
        "dynamic": [],
        "fixed": ["-o", "subformat=fixed"],
        "block-512k": ["-o", "block_size=512k"],
    },
    "vhdx": {
        "dynamic": [],
        "fixed": ["-o", "subformat=fixed"],
        **{f"block-{size}": ["-o", f"block_size={size}"] for size in ("1M", "2M", "8M")},
        "zero-blocks": ["-o", "block_state_zero=on"],
    },
    "vdi": {
        "dynamic": [],
        "static": ["-o", "static=on"],
    },
}
# Sizes that are no multiple of a sector cannot be kept by these.
WHOLE_SECTORS = {"vmdk", "vhd", "vhdx", "vdi"}


def written():
    """(format, label, arguments) of everything this build can write."""
    for fmt in process.formats(writable=True):
        for label, options in WAYS.get(fmt, {"plain": []}).items():
            yield fmt, label, options


def main_ways():
    """Fewer: the first of each format, and the compressed ones."""
    for fmt, label, options in written():
        if options == [] or label in ("zlib", "zstd", "streamOptimized", "fixed", "static"):
            yield fmt, label, options
