"""Why a folder cannot be written to, for messages about programs that failed in it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

_LEAST: Final = 1 << 20
"""Bytes; with less than this left, programs fail."""


def disk_problem(folder: Path) -> str:
    """What is wrong with the disk of a folder, and what to do; "" if it can be written to."""
    try:
        seen = os.statvfs(folder)
    except OSError as error:
        return f"{folder} cannot be reached any more: {error.strerror}"
    if seen.f_flag & os.ST_RDONLY or not os.access(folder, os.W_OK):
        return f"{folder} has become read-only: make it writable"
    if seen.f_bavail * seen.f_frsize < _LEAST:
        return f"the disk of {folder} is full: make room"
    try:  # after an error of the disk, Linux may refuse what the flags above allow
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"?")
    except OSError as error:
        if error.errno == errno.EROFS:
            return f"{folder} has become read-only, after an error of its disk (see dmesg)"
        return f"{folder} cannot be written to: {error.strerror}"
    return ""
