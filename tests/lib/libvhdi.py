# SPDX-License-Identifier: Apache-2.0
"""libyal's libvhdi (VHD and VHDX), which follows parents when they are handed to it, as another reader."""

import contextlib
import ctypes
import ctypes.util
import hashlib

from lib.harness import Failure, skip

STEP = 1 << 20


def _library():
    name = ctypes.util.find_library("vhdi")
    if not name:
        skip("libvhdi is not installed")
    return ctypes.CDLL(name)


def _call(function, *args):
    error = ctypes.c_void_p()
    result = function(*args, ctypes.byref(error))
    if result < 0 or error:
        raise Failure(f"libvhdi: {function.__name__} failed")
    return result


@contextlib.contextmanager
def opened(*paths):
    """Yields read(at, length) and the size of the first image; the others are its parents, in order."""
    library = _library()
    read = library.libvhdi_file_read_buffer_at_offset
    read.restype = ctypes.c_ssize_t
    read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64,
                     ctypes.c_void_p]
    files = []
    try:
        for path in paths:
            handle = ctypes.c_void_p()
            _call(library.libvhdi_file_initialize, ctypes.byref(handle))
            files.append(handle)
            _call(library.libvhdi_file_open, handle, path.encode(), 1)
        for child, parent in zip(files, files[1:]):
            _call(library.libvhdi_file_set_parent_file, child, parent)
        size = ctypes.c_uint64()
        _call(library.libvhdi_file_get_media_size, files[0], ctypes.byref(size))
        buffer = ctypes.create_string_buffer(STEP)

        def read_at(at, length):
            got = _call(read, files[0], buffer, length, at)
            if got != length:
                raise Failure(f"libvhdi: {got} of {length} bytes at {at}")
            return buffer.raw[:length]

        yield read_at, size.value
    finally:
        for handle in files:
            library.libvhdi_file_close(handle, None)
            library.libvhdi_file_free(ctypes.byref(handle), None)


def guest_sha256(*paths):
    """SHA-256 of the guest's bytes of the first image on top of the others."""
    digest = hashlib.sha256()
    with opened(*paths) as (read_at, size):
        for at in range(0, size, STEP):
            digest.update(read_at(at, min(STEP, size - at)))
    return digest.hexdigest()
