"""Shared memory that killed MPI processes have left in /dev/shm: 1 MB for each run of MPICH."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SHARED: Final = Path("/dev/shm")  # noqa: S108 - MPICH's choice
_SEGMENTS: Final = "mpich_shm_*"
_AGE_S: Final = 60.0
"""Younger segments are left alone: ranks that are starting may not have opened theirs yet."""


def remove_stale_segments(folder: Path = SHARED, age_s: float = _AGE_S) -> list[Path]:
    """Remove MPICH's segments of this user that no process has mapped.

    Their names tell no process: MPICH makes them from its own identifiers. So every process of this
    user is looked at; nothing is removed where that is not possible.

    Args:
        folder: where they are.
        age_s: seconds since their last change from which they count.

    Returns:
        The removed segments.
    """
    old = [file for file in sorted(folder.glob(_SEGMENTS)) if _is_old(file, age_s)]
    if not old or not Path("/proc/self/maps").exists():
        return []
    mapped = set(_mapped(folder))
    removed = []
    for file in old:
        if str(file) not in mapped:
            with contextlib.suppress(OSError):
                file.unlink()
                removed.append(file)
    return removed


def _is_old(file: Path, age_s: float) -> bool:
    try:
        seen = file.lstat()
    except OSError:
        return False
    return seen.st_uid == os.getuid() and time.time() - seen.st_mtime >= age_s


def _mapped(folder: Path) -> Iterator[str]:
    """Files of a folder that processes of this user have mapped."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if maps.stat().st_uid == os.getuid():
                for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
                    _, _, name = line.partition(f" {folder}/")
                    if name:
                        yield f"{folder}/{name.removesuffix(' (deleted)')}"
