"""Files and folders that may have been meant where something else was named."""

from __future__ import annotations

import contextlib
import difflib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_LOOKED_AT: Final = 500
"""Entries of a folder that are looked at, at most."""
_NAMED: Final = 3


def did_you_mean(path: Path, fits: Callable[[Path], bool] = Path.exists) -> str:
    """The end of a message about a path that does not exist: "; did you mean A or B?", or "".

    Names near a misspelt folder or file are found, and that name in a folder beside it.

    Args:
        path: what was given.
        fits: what may have been meant.
    """
    near = _near(path, fits)
    return f"; did you mean {' or '.join(map(str, near))}?" if near else ""


def folders_with(folder: Path, name: str) -> list[Path]:
    """A few folders in a folder that hold a file of this name."""
    found = (entry for entry in _entries(folder) if (entry / name).is_file())
    return list(itertools.islice(found, _NAMED + 1))


def _near(path: Path, fits: Callable[[Path], bool]) -> list[Path]:
    missing = path
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent
    rest = path.relative_to(missing)
    names = [entry.name for entry in _entries(missing.parent)]
    close = difflib.get_close_matches(missing.name, names, n=2 * _NAMED)
    found = [place for name in close if fits(place := missing.parent / name / rest)]
    if not found:
        below = (entry / path.name for entry in _entries(missing.parent) if entry.is_dir())
        found = [place for place in below if fits(place)]
    return found[:_NAMED]


def _entries(folder: Path) -> Iterator[Path]:
    """Entries that are not hidden, by name; none if the folder cannot be read."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found = list(itertools.islice(folder.iterdir(), _LOOKED_AT))
    yield from sorted(entry for entry in found if not entry.name.startswith("."))
