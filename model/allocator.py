"""Owns one setting of the C library's allocator: keep freed memory instead of returning it.

Tensors of megabytes that come and go would otherwise be mapped and unmapped each time, page fault
by page fault.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # from malloc.h


def keep_freed_memory(num_bytes: int = 1 << 30) -> bool:
    """Keep up to `num_bytes` of freed memory. True where it took effect (glibc)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_THRESHOLD: num_bytes, _M_TRIM_THRESHOLD: num_bytes, _M_TOP_PAD: 1 << 26}
    return all(mallopt(option, value) == 1 for option, value in settings.items())
