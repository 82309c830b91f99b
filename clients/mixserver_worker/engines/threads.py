"""Threads of an engine, and the memory of a process that is about to import torch.

For torch, both must be set before it is imported: OpenMP and MKL read their environment once, and
glibc should keep the memory torch frees instead of giving every large tensor back to the kernel
(hundreds of thousands of page faults an evaluation otherwise). Imports nothing heavy.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from mixserver.core.errors import ConfigError

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4
_KEEP: Final = 2**31 - 1
_PAD: Final = 64 << 20


def prepare_torch(threads: int | None = None) -> bool:
    """Set threads and allocator. Call it before torch is imported.

    Args:
        threads: CPU threads torch may use; None leaves the environment as it is.

    Returns:
        True if the allocator will keep freed memory (False without glibc).

    Raises:
        ConfigError: fewer than one thread.
    """
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"threads must be 1 or more, got {threads}")
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)
    return _keep_freed_memory()


def threads_of_environment() -> int:
    """OMP_NUM_THREADS, of whose list the first number counts, or 1 where there is none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, int(first)) if first.isdigit() else 1


def _keep_freed_memory() -> bool:
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False  # musl, macOS, Windows: their allocators have no such switch
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP), (_M_TOP_PAD, _PAD))
    return all(mallopt(option, value) == 1 for option, value in settings)
