"""Per-process scratch directories for sockets and temporary files.

Removed on exit; directories left by killed processes are removed when the next one is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver.core.shared_memory import remove_stale_segments

_PREFIX: Final = "mixserver-"
_OWNER: Final = "owner.pid"
"""Holds the owner's process id, and is locked while the owner lives."""
_BOUND: Final = Path("/proc/net/unix")
_LONGEST: Final = 107
"""Bytes of a unix socket's path."""
_PLAIN: Final = re.compile(r"[ !%()*+,\-./0-9:;<=>?@A-Z\[\]^_a-z{|}~]+")
"""Paths that LAMMPS's parser keeps as they are, in double quotes."""
_OTHERWISE: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a private directory is made in it
"""Where directories are made if TMPDIR is not suitable."""


@contextlib.contextmanager
def scratch_directory(room: int = 40) -> Iterator[str]:
    """A new directory that only this user can enter, removed at the end of this context.

    It lies in TMPDIR; in /tmp or the like where TMPDIR is too long for sockets, or has
    characters that LAMMPS cannot read. Directories left there by killed processes of this user are
    removed first.

    Args:
        room: bytes of the longest file name in it.

    Raises:
        ConfigError: no directory is suitable.
    """
    folder = _made(room)
    with (Path(folder) / _OWNER).open("w", encoding="ascii") as owner:
        try:
            # locked first: a directory with an empty file is not removed
            fcntl.flock(owner, fcntl.LOCK_EX)
            owner.write(f"{os.getpid()}\n")
            owner.flush()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # while it is still locked


def _made(room: int) -> str:
    """A new directory in the first suitable place."""
    why: list[str] = []
    for place in dict.fromkeys((_usual(), *_OTHERWISE)):
        size = len(os.fsencode(place)) + len(f"/{_PREFIX}12345678/") + room
        if size > _LONGEST:
            why.append(f"{place} makes paths of {size} bytes, a socket takes {_LONGEST}")
        elif not is_lammps_safe(place):
            why.append(f"{place} has characters that LAMMPS cannot read")
        else:
            remove_stale(Path(place))
            remove_stale_segments()
            try:
                return tempfile.mkdtemp(prefix=_PREFIX, dir=place)
            except OSError as error:
                why.append(f"{place}: {error.strerror}")
    raise ConfigError(
        f"there is no place for sockets and passing files ({'; '.join(why)}); set TMPDIR to a "
        "short folder that can be written"
    )


def is_lammps_safe(path: str) -> bool:
    """Whether LAMMPS can be given a path as it is."""
    return _PLAIN.fullmatch(path) is not None


def _usual() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - it is tried, and reported


def remove_stale(place: Path) -> list[Path]:
    """Remove scratch directories whose owners were killed.

    Kept are those of other users, without an owner's file, of a running process (also one in
    another container, by its lock), and those in which a socket is still bound: i-PI may be about
    to write its RESTART.

    Args:
        place: the folder they are in.

    Returns:
        The removed directories.
    """
    try:
        bound = _BOUND.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: it is unknown what is in use
        return []
    return [
        folder
        for folder in sorted(place.glob(f"{_PREFIX}*"))
        if f" {folder}/" not in bound and _removed(folder)
    ]


def _removed(folder: Path) -> bool:
    try:
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
            return False
        with (folder / _OWNER).open("r", encoding="ascii") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid = owner.read().strip()
            if not pid.isdecimal() or _lives(int(pid)):
                return False
            if not os.path.samestat(os.fstat(owner.fileno()), (folder / _OWNER).stat()):
                return False  # another process removed it, and the name is in use again
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, ValueError):  # no owner's file, locked, or gone by now
        return False
    return not folder.exists()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or not a number of a process here
    return True
