"""What the C library does with memory that is given back to it."""

import ctypes
import os
import sys
from functools import cache

#: Options of mallopt(3): what is larger gets a mapping of its own, and what is free beyond is given back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: glibc takes no more as a threshold for mappings in its older versions.
_MAPPED, _KEPT = 32 * 2**20, 2**30


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of what this process frees, for what it asks for next: once, from the first training
    on. Else it gives the memory of each step back to the system, and the next step takes it anew, page by page.

    Whoever has set how memory is allocated (``MALLOC_…``, such as ``MALLOC_TRIM_THRESHOLD_=131072``, or
    ``GLIBC_TUNABLES``) keeps that.

    Returns:
        Whether anything was set: not with another C library.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, _MAPPED)) and bool(library.mallopt(_TRIM_THRESHOLD, _KEPT))
