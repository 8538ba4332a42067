"""Memory that a training asks for again in each step, which glibc would give back to the system in between."""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MOST = 2**31 - 1  # bytes free at the end of the heap beyond which they are given back


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; returns whether its C library takes that.

    By default glibc maps a piece of more than 32 MiB, such as a block of scores, afresh each time, and the system fills it
    with zeros, 4 KiB at a time. The process keeps its peak instead. It is for processes of our own; a notebook
    may have other plans for its memory. Where the user has set an option of malloc, all stay as they are.
    """
    said = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if said or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
