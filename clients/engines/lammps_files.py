"""The files a LAMMPS potential is made of: their places, contents and names for LAMMPS.

Knows files; knows neither commands nor LAMMPS.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mixserver.errors import ConfigError
from mixserver.private import is_plain, private_folder

_NAME: Final = re.compile(r"[\w.+\-/@]*[A-Za-z_][\w.+\-/@]*")
_MOST_TO_SEARCH: Final = 8 * 2**20
"""Bytes. Larger files are tables of numbers and name no others."""
_MOST_IN_A_FOLDER: Final = 2000


def found(word: str, here: Sequence[Path], shared: Sequence[Path]) -> Path | None:
    """The file a word names.

    Args:
        word: as it stands in the commands.
        here: folders that the word is relative to.
        shared: folders of potentials; as LAMMPS does, there the last part of the word will do.
    """
    tries = [folder / word for folder in here]
    tries += [folder / name for folder in shared for name in (word, os.path.basename(word)) if name]
    for path in tries:
        with contextlib.suppress(OSError, ValueError):  # a word too long for a name, a null byte
            if path.is_file():
                return Path(os.path.abspath(path))
    return None


def found_folder(word: str, here: Sequence[Path]) -> Path | None:
    """The folder a word names, relative to one of several."""
    for folder in here:
        with contextlib.suppress(OSError, ValueError):
            if (folder / word).is_dir():
                return Path(os.path.abspath(folder / word))
    return None


@dataclass(frozen=True, slots=True)
class Seen:
    """A file or folder as it was when the fingerprint was taken."""

    path: Path
    stamp: tuple[int, int]
    """Size and time of its last change; of a folder its own."""
    content: bytes

    @classmethod
    def now(cls, path: Path) -> Seen:
        """As it is.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            stamp = _stamp(path)
        except OSError as error:
            raise ConfigError(f"cannot read the potential file {path}: {error.strerror}") from error
        return cls(path, stamp, content(path))

    def changed(self) -> str:
        """What has happened to it since, in words; "" if it still says the same."""
        try:
            if _stamp(self.path) == self.stamp or content(self.path) == self.content:
                return ""
        except (OSError, ConfigError):
            return f"{self.path} cannot be read any more"
        return f"{self.path} has been changed"


def _stamp(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns


def content(path: Path) -> bytes:
    """A digest of a file and of the files that it names, or of all files in a folder.

    Raises:
        ConfigError: it cannot be read, or there are too many.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for inner in _inside(path):
                digest.update(str(inner.relative_to(path)).encode("utf-8", "surrogateescape"))
                digest.update(hashlib.sha256(inner.read_bytes()).digest())
        else:
            _take(path, digest.update, set())
    except OSError as error:
        raise ConfigError(f"cannot read the potential file {path}: {error.strerror}") from error
    return digest.digest()


def _inside(folder: Path) -> list[Path]:
    files: list[Path] = []
    for file in folder.rglob("*"):
        if file.is_file():
            files.append(file)
        if len(files) > _MOST_IN_A_FOLDER:
            raise ConfigError(
                f"the potential names the folder {folder}, which holds more than "
                f"{_MOST_IN_A_FOLDER} files; keep the potential's own in a folder of theirs"
            )
    return sorted(files)


def _take(path: Path, tell: Callable[[bytes], object], seen: set[Path]) -> None:
    """Tell the digest of a file, then those of the files it names."""
    seen.add(path)
    data = path.read_bytes()
    tell(hashlib.sha256(data).digest())
    for inner in _named(data, path.parent):
        if inner not in seen:
            _take(inner, tell, seen)


def _named(data: bytes, folder: Path) -> Iterator[Path]:
    """Files that a text names, outside its comments, relative to where it lies or we run."""
    if len(data) > _MOST_TO_SEARCH or b"\0" in data[:4096]:
        return
    text = re.sub(r"#.*", "", data.decode("utf-8", "replace"))
    for word in dict.fromkeys(_NAME.findall(text)):
        if ("." in word or "/" in word) and not _number(word):
            path = found(word, (folder, Path.cwd()), ())
            if path is not None:
                yield path


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class Spoken:
    """Paths in a form that LAMMPS can read.

    Its parser drops or replaces what is not ASCII, and knows no escapes. A path with such
    characters gets a link in a folder of this process; everything else keeps its name.
    """

    def __init__(self) -> None:
        self._folder = contextlib.ExitStack()
        self._place = ""
        self._links: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        """An ASCII name of a file or folder.

        Raises:
            ConfigError: no folder for links can be made.
        """
        if is_plain(str(path)):
            return str(path)
        if path not in self._links:
            if not self._place:
                self._place = self._folder.enter_context(private_folder())
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
