"""What regions remembered at every evaluation, in a file that outlives a server that is killed.

Each record is written by one call before the evaluation is answered, so whatever frame i-PI can
come back with is in there. Only what changed is written. Two files of bounded size follow each
other, each readable by itself.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError
from mixserver.region.marks import COUNT, Mark
from mixserver.region.memory import Memory

log = structlog.get_logger(__name__)

JOURNAL: Final = "region.journal"
EARLIER: Final = "region.journal.old"
MOST_BYTES: Final = 64 << 20
"""Of each of the two files."""
MOST_RECORDS: Final = 100_000
"""In each of the two files, so that reading them takes a second at most."""

_MAGIC: Final = b"mixserver region journal 1\n"
_HEAD: Final = struct.Struct("<IIBxxxi")
"""CRC-32 of what follows, length of the body, kind, bead."""
_ASKED: Final = struct.Struct(f"<{COUNT}dd")
_STATE_KIND: Final = 1
_ASKED_KIND: Final = 2
_TYPES: Final = {
    **dict.fromkeys(("active", "chosen", "target"), "<i4"),
    **dict.fromkeys(("expensive", "summed", "targeted"), "<f8"),
}
_ONE_STEP: Final = 1.5
"""Times the longest step so far: where the next frame may be, but hardly the one after that."""
_FIRST_STEPS: Final = 3.5
"""The same where few steps are known. The length of one is known to 25 % from the eight sums of a
mark, so one step may seem this much longer than another of the same length (one in a thousand)."""
_FEW: Final = 8
""""Few" steps."""
_NAMES: Final = tuple(one.name for one in fields(Memory))


class Journal:
    """Writes what the regions of one run remember.

    A full disk or a vanished folder stops the journal, not the run; it is logged once.

    Args:
        folder: the run's; the file is made by the first record.
        most_bytes: a file that is longer is followed by another.
        most_records: likewise.
    """

    def __init__(
        self, folder: Path, *, most_bytes: int = MOST_BYTES, most_records: int = MOST_RECORDS
    ) -> None:
        self.folder = folder
        self._most_bytes = most_bytes
        self._most_records = most_records
        self._file: int | None = None
        self._bytes = self._records = 0
        self._known: dict[int, dict[str, Any]] = {}
        """Per bead, what the file says last."""
        self._broken = False

    def remembered(self, bead: int, memory: Memory) -> None:
        """Write what has changed of a bead's memory since it was written last."""
        now = {name: getattr(memory, name) for name in _NAMES}
        before = self._known.get(bead)
        changed = {
            name: value
            for name, value in now.items()
            # arrays of a memory are replaced, never changed
            if before is None
            or not (before[name] is value or (name not in _TYPES and before[name] == value))
        }
        if changed:
            self._known[bead] = now
            self._append(_state(bead, changed))

    def asked(self, bead: int, mark: Mark) -> None:
        """Write that a bead is evaluated at a frame, with what was written of its memory last."""
        self._append(_record(_ASKED_KIND, bead, _ASKED.pack(*mark.sums.tolist(), mark.size)))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, record: bytes) -> None:
        if self._broken:
            return
        try:
            if self._file is None or (
                self._bytes >= self._most_bytes or self._records >= self._most_records
            ):
                self._begin()
                if record[8] == _STATE_KIND:  # it is among those that begin the file
                    return
            self._write(record)
        except OSError as error:
            self._broken = True
            self.close()
            log.warning(
                "what regions remember cannot be written any more; a restart from later steps will "
                "be refused",
                folder=str(self.folder),
                error=str(error),
            )

    def _begin(self) -> None:
        """Begin the next file with all that is remembered, so that it stands for itself."""
        file = self.folder / JOURNAL
        if self._file is not None:
            self.close()
            file.replace(self.folder / EARLIER)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._bytes = self._records = 0
        whole = [_state(bead, known) for bead, known in self._known.items()]
        self._write(_MAGIC + b"".join(whole))

    def _write(self, content: bytes) -> None:
        if self._file is None:
            raise OSError("the journal is closed")
        self._bytes += len(content)
        self._records += 1
        while content:
            content = content[os.write(self._file, content) :]


@dataclass(frozen=True, slots=True)
class Found:
    """A frame that a bead was evaluated at before."""

    memory: Memory
    """What was remembered when that evaluation began."""
    later: int
    """Evaluations of the bead that came after it."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """A frame that a bead was never evaluated at, as far as the journal reaches back."""

    asked: int
    """Evaluations of the bead there are."""
    distance: float
    """Å, from the nearest of them; see `Mark.distance`. Infinite if there is none."""
    last: Memory | None
    """What is remembered after all of them."""
    goes_on: bool
    """Whether it may be the next after the last of them: not much farther than steps were long."""


@dataclass(slots=True)
class Past:
    """All that a journal holds."""

    parts: list[bytes] = field(default_factory=list)
    damage: str = ""
    """Where a file could not be read on, in words; "" if it could to its end."""

    def find(self, bead: int, mark: Mark) -> Found | Nearest:
        """Look for the last evaluation of a bead at a frame, equal but for roundings.

        Raises:
            ConfigError: a record holds something else than a memory.
        """
        parts = [_of(part, bead) for part in self.parts]
        asked = np.concatenate([part.asked for part in parts])
        if not len(asked):
            return Nearest(0, np.inf, None, goes_on=False)
        sums = asked[:, :COUNT]
        distances = _lengths(sums - mark.sums)
        least = float(distances.min())
        if least <= mark.rounding:  # of nearly equal frames the nearest, of equal ones the last
            best = int(np.flatnonzero(distances <= least + 1e-9)[-1])
            later = len(asked) - 1 - best
            for part in parts:
                if best < len(part.asked):
                    return Found(part.memory(best), later)
                best -= len(part.asked)
        steps = _lengths(np.diff(sums, axis=0))
        longest = float(steps.max(initial=0.0))
        # one frame alone does not say how long steps are
        reach = (_ONE_STEP if len(steps) >= _FEW else _FIRST_STEPS) * longest
        near = longest <= mark.rounding or distances[-1] <= reach
        last = next((part.memory(None) for part in parts[::-1] if part.states), None)
        return Nearest(len(asked), least, last, goes_on=bool(near) and not self.damage)


@dataclass(slots=True)
class _Part:
    """What one file says of one bead."""

    asked: Scalars
    """(n, 9) sums and size of each frame."""
    states: list[tuple[int, bytes]]
    """What changed of the memory, and how many frames came before."""

    def memory(self, at: int | None) -> Memory:
        """What was remembered at a frame, or at last."""
        plain: dict[str, Any] = {}
        for before, body in self.states:
            if at is not None and before > at:
                break
            plain.update(msgspec.msgpack.decode(body))
        return _memory(plain)


def _of(part: bytes, bead: int) -> _Part:
    asked: list[bytes] = []
    states: list[tuple[int, bytes]] = []
    for kind, of, body in _records(part)[0]:
        if of != bead:
            continue
        if kind == _STATE_KIND:
            states.append((len(asked), body))
        else:
            asked.append(body)
    rows = np.frombuffer(b"".join(asked), "<f8").reshape(-1, COUNT + 1)
    return _Part(rows, states)


def _lengths(rows: Scalars) -> Scalars:
    found: Scalars = np.sqrt((rows * rows).sum(axis=1))
    return found


def has_journal(folder: Path) -> bool:
    """Whether a run kept a journal."""
    return any((folder / name).exists() for name in (EARLIER, JOURNAL))


def read_past(folder: Path) -> Past | None:
    """Read a run's journal as far as it can be read; None if the run kept none.

    Raises:
        ConfigError: a file cannot be opened, or is no journal.
    """
    past = Past()
    for name in (EARLIER, JOURNAL):
        file = folder / name
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        if not content.startswith(_MAGIC):
            if _MAGIC.startswith(content):  # killed while it was made
                continue
            raise ConfigError(f"{file} must begin with {_MAGIC.decode().strip()!r}, but does not")
        past.parts.append(content)
        end = _records(content)[1]
        if end < len(content):
            past.damage = f"{file.name} is damaged or cut short at byte {end} of {len(content)}"
    return past if past.parts else None


def _records(content: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """(kind, bead, body) of all records up to the first damaged one, and where that begins."""
    found = []
    at = len(_MAGIC)
    while at + _HEAD.size <= len(content):
        crc, length, kind, bead = _HEAD.unpack_from(content, at)
        end = at + _HEAD.size + length
        if end > len(content) or zlib.crc32(content[at + 4 : end]) != crc:
            break
        found.append((kind, bead, content[at + _HEAD.size : end]))
        at = end
    return found, at


def _record(kind: int, bead: int, body: bytes) -> bytes:
    rest = _HEAD.pack(0, len(body), kind, bead)[4:] + body
    return struct.pack("<I", zlib.crc32(rest)) + rest


def _state(bead: int, values: dict[str, Any]) -> bytes:
    plain = {
        name: value
        if value is None or name not in _TYPES
        else np.asarray(value, dtype=_TYPES[name]).tobytes()
        for name, value in values.items()
    }
    return _record(_STATE_KIND, bead, msgspec.msgpack.encode(plain))


def _memory(plain: dict[str, Any]) -> Memory:
    """A memory of plain values.

    Raises:
        ConfigError: they are not those of a memory.
    """
    try:
        values: dict[str, Any] = {
            name: np.frombuffer(value, _TYPES[name]).astype(
                np.intp if _TYPES[name] == "<i4" else np.float64
            )
            if name in _TYPES and value is not None
            else value
            for name, value in plain.items()
        }
        memory = Memory(**values)
        memory.check()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"this is no memory of a region: {error}") from error
    return memory
