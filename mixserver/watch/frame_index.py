"""Where the frames of a growing xyz file begin and end, without reading all of it.

Frames of a trajectory are mostly of one length: where the next one begins at that distance, the
lines between are not read. Else they are counted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Final, NamedTuple

_HEAD: Final = re.compile(
    rb"[ \t]*(\d{1,9})[ \t]*\r?\n[^\n]*?(?:Step:[ \t]*(\d+)|evaluation=(\d+))[^\n]*\n"
)
_HEAD_BYTES: Final = 4096
_BLOCK: Final = 1 << 20
_MOST_BYTES: Final = 1 << 26
"""Bytes in which lines are counted in one update."""


class Stored(NamedTuple):
    """Where a frame is in its file."""

    number: int
    """i-PI's step, or the evaluation."""
    atoms: int
    start: int
    length: int


class FrameIndex:
    """The complete frames of one file.

    Args:
        file: an i-PI trajectory or an extxyz of mixserver; it need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.frames: list[Stored] = []
        self._end = 0

    def update(self) -> None:
        """Find the frames that were completed since the last time."""
        try:
            with self.file.open("rb") as handle:
                size = handle.seek(0, 2)
                if size < self._end:  # another file than before
                    self.frames, self._end = [], 0
                self._find(handle, size)
        except OSError:
            return

    def text(self, at: int) -> str:
        """The text of a frame.

        Raises:
            IndexError: there is no such frame.
            OSError: the file cannot be read.
        """
        if at < 0:
            raise IndexError(at)
        frame = self.frames[at]
        with self.file.open("rb") as handle:
            handle.seek(frame.start)
            return handle.read(frame.length).decode("utf-8", "replace")

    def _find(self, handle: IO[bytes], size: int) -> None:
        allowed = _MOST_BYTES
        while self._end < size and allowed > 0:
            head = _head(handle, self._end)
            if head is None:
                return
            length = self.frames[-1].length if self.frames else 0
            same = bool(self.frames) and head[1] == self.frames[-1].atoms
            if not (same and _head(handle, self._end + length)):
                length = _lines(handle, self._end, head[1] + 2)
                allowed -= length
            if not length or self._end + length > size:
                return
            self.frames.append(Stored(head[0], head[1], self._end, length))
            self._end += length


def _head(handle: IO[bytes], at: int) -> tuple[int, int] | None:
    """Number and atoms of the frame that begins there; None if none does."""
    handle.seek(at)
    found = _HEAD.match(handle.read(_HEAD_BYTES))
    return None if found is None else (int(found[2] or found[3]), int(found[1]))


def _lines(handle: IO[bytes], at: int, count: int) -> int:
    """The bytes of so many lines from there; 0 if there are fewer."""
    handle.seek(at)
    length = 0
    while block := handle.read(_BLOCK):
        ends = block.count(b"\n")
        if ends < count:
            count -= ends
            length += len(block)
            continue
        place = -1
        for _ in range(count):
            place = block.find(b"\n", place + 1)
        return length + place + 1
    return 0
