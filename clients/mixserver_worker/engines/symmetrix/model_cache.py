"""Keeps converted models on disk, because converting takes up to minutes.

A file's name is what it was made from and the sha256 of its own content, so a file that was cut
short, damaged or exchanged is noticed and made again. Files are written in one step; processes
that convert the same model at the same time do not disturb each other.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mixserver.core.atomic_write import write_atomically

_log = logging.getLogger("mixserver.mace")


@contextmanager
def cached_file(folder: Path, key: str, make: Callable[[], bytes]) -> Iterator[Path]:
    """A file with the content that belongs to a key, from the cache or made now.

    If the cache cannot be written, the file is temporary and exists in this context only.

    Args:
        folder: the cache; made if there is none.
        key: letters and digits, different for different content.
        make: makes the content.

    Raises:
        Whatever `make` raises.
    """
    found = _find(folder, key)
    if found is not None:
        yield found
        return
    content = make()
    name = f"{key}-{_digest(content)}.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(folder / name, content)
    except OSError as error:
        _log.warning(
            "the converted model cannot be kept in %s (%s), so the next start converts it again. "
            "Choose another folder with --cache",
            folder,
            error.strerror,
        )
    else:
        yield folder / name
        return
    with tempfile.TemporaryDirectory(prefix="mixserver-") as private:
        file = Path(private, name)
        file.write_bytes(content)
        yield file


def _find(folder: Path, key: str) -> Path | None:
    try:
        files = sorted(folder.glob(f"{key}-*.json"))
    except OSError:
        return None
    for file in files:
        try:
            intact = file.stem.rpartition("-")[2] == _digest(file.read_bytes())
        except OSError:
            continue
        if intact:
            return file
        _log.warning("%s is damaged: the model is converted again", file)
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
