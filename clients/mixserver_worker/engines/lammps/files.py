"""Files of a LAMMPS potential: finding them, their digests and ASCII paths for LAMMPS."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver.core.scratch import is_lammps_safe, scratch_directory
from mixserver_worker.engines.lammps.text import is_number

_NAME: Final = re.compile(r"[\w.+\-/@]*[A-Za-z_][\w.+\-/@]*")
_MOST_TO_SEARCH: Final = 8 * 2**20
"""Bytes. Larger files are tables of numbers that name no other files."""
_MOST_IN_A_FOLDER: Final = 2000


def find_file(word: str, here: Sequence[Path], shared: Sequence[Path]) -> Path | None:
    """Find the file that a word of a command names.

    Args:
        word: as in the commands.
        here: folders that the word is relative to.
        shared: folders of potentials; as in LAMMPS, the last part of the path suffices there.
    """
    tries = [folder / word for folder in here]
    tries += [folder / name for folder in shared for name in (word, os.path.basename(word)) if name]
    for path in tries:
        with contextlib.suppress(OSError, ValueError):  # a word too long for a name, a null byte
            if path.is_file():
                return Path(os.path.abspath(path))
    return None


def find_folder(word: str, here: Sequence[Path]) -> Path | None:
    """Find the folder that a word names, relative to one of several."""
    for folder in here:
        with contextlib.suppress(OSError, ValueError):
            if (folder / word).is_dir():
                return Path(os.path.abspath(folder / word))
    return None


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file or folder as it was when the fingerprint was taken."""

    path: Path
    stamp: tuple[int, int]
    """Size and modification time; for a folder, those of the folder itself."""
    digest: bytes

    @classmethod
    def record(cls, path: Path) -> RecordedFile:
        """Record its current state.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            stamp = _stamp(path)
        except OSError as error:
            raise ConfigError(f"cannot read the potential file {path}: {error.strerror}") from error
        return cls(path, stamp, digest_of(path))

    def change(self) -> str:
        """What has changed since, for a message; "" if the content is the same."""
        try:
            if _stamp(self.path) == self.stamp or digest_of(self.path) == self.digest:
                return ""
        except (OSError, ConfigError):
            return f"{self.path} cannot be read any more"
        return f"{self.path} has been changed"


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def digest_of(path: Path) -> bytes:
    """The sha256 of a file and of the files that it names, or of all files in a folder.

    Raises:
        ConfigError: a file cannot be read, or the folder has too many.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for inner in _files_in(path):
                digest.update(str(inner.relative_to(path)).encode("utf-8", "surrogateescape"))
                digest.update(hashlib.sha256(inner.read_bytes()).digest())
        else:
            _update(digest, path, set())
    except OSError as error:
        raise ConfigError(f"cannot read the potential file {path}: {error.strerror}") from error
    return digest.digest()


def _files_in(folder: Path) -> list[Path]:
    files: list[Path] = []
    for file in folder.rglob("*"):
        if file.is_file():
            files.append(file)
        if len(files) > _MOST_IN_A_FOLDER:
            raise ConfigError(
                f"the potential names the folder {folder}, which has more than "
                f"{_MOST_IN_A_FOLDER} files; move the potential's files to a folder of their own"
            )
    return sorted(files)


def _update(digest: hashlib._Hash, path: Path, seen: set[Path]) -> None:
    """Add the digest of a file, then those of the files that it names."""
    seen.add(path)
    data = path.read_bytes()
    digest.update(hashlib.sha256(data).digest())
    for inner in _named_in(data, path.parent):
        if inner not in seen:
            _update(digest, inner, seen)


def _named_in(data: bytes, folder: Path) -> Iterator[Path]:
    """Files that a text names outside comments, relative to its or the current folder."""
    if len(data) > _MOST_TO_SEARCH or b"\0" in data[:4096]:
        return
    text = re.sub(r"#.*", "", data.decode("utf-8", "replace"))
    for word in dict.fromkeys(_NAME.findall(text)):
        if ("." in word or "/" in word) and not is_number(word):
            path = find_file(word, (folder, Path.cwd()), ())
            if path is not None:
                yield path


class AsciiPaths:
    """Paths in a form that LAMMPS can read.

    LAMMPS's parser drops or replaces characters that are not ASCII and has no escapes. For a path
    with such characters a symbolic link is made in a scratch directory; other paths stay as is.
    """

    def __init__(self) -> None:
        self._folder = contextlib.ExitStack()
        self._place = ""
        self._links: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        """An ASCII path of a file or folder.

        Raises:
            ConfigError: the scratch directory cannot be made.
        """
        if is_lammps_safe(str(path)):
            return str(path)
        if path not in self._links:
            if not self._place:
                self._place = self._folder.enter_context(scratch_directory())
            inside = Path(self._place, str(len(self._links)))
            inside.mkdir()
            link = inside / (re.sub(r"[^\w.+\-]", "_", path.name, flags=re.ASCII) or "file")
            link.symlink_to(path)
            self._links[path] = str(link)
        return self._links[path]

    def close(self) -> None:
        """Remove the links."""
        self._folder.close()
        self._place, self._links = "", {}
