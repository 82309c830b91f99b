"""Reads the journal of region states, and finds the state that a bead had at a frame."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.region.fingerprint import COUNT, FrameFingerprint
from mixserver.region.hysteresis import RegionState
from mixserver.server.records.journal import (
    EARLIER,
    FIELDS,
    HEAD,
    JOURNAL,
    MAGIC,
    STATE_KIND,
    TYPES,
)

_ONE_STEP: Final = 1.5
"""Times the longest step so far: where the next frame may be, but hardly the one after that."""
_FIRST_STEPS: Final = 3.5
"""The same where few steps are known. The length of one is known to 25 % from the eight sums of a
fingerprint, so one step may seem this much longer than another of the same length (one in a
thousand)."""
_FEW: Final = 8
""""Few" steps."""


@dataclass(frozen=True, slots=True)
class Found:
    """A frame that a bead was evaluated at before."""

    state: RegionState
    """The bead's state when that evaluation began."""
    later: int
    """Evaluations of the bead that came after it."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """A frame that a bead was never evaluated at, as far as the journal reaches back."""

    evaluations: int
    """Evaluations of the bead in the journal."""
    distance: float
    """Å, from the nearest of them; see `FrameFingerprint.distance`. Infinite if there is none."""
    last: RegionState | None
    """The state after all of them."""
    goes_on: bool
    """Whether it may be the next after the last of them: not much farther than steps were long."""


@dataclass(slots=True)
class JournalRecords:
    """The contents of a journal."""

    parts: list[bytes] = field(default_factory=list)
    damage: str = ""
    """Where a file could not be read on, in words; "" if it could to its end."""

    def find(self, bead: int, fingerprint: FrameFingerprint) -> Found | Nearest:
        """Look for the last evaluation of a bead at a frame, equal to within rounding.

        Raises:
            ConfigError: a record does not hold a state.
        """
        parts = [_of(part, bead) for part in self.parts]
        frames = np.concatenate([part.frames for part in parts])
        if not len(frames):
            return Nearest(0, np.inf, None, goes_on=False)
        sums = frames[:, :COUNT]
        distances = _lengths(sums - fingerprint.sums)
        least = float(distances.min())
        if least <= fingerprint.rounding:
            # of nearly equal frames the nearest, of equal ones the last
            best = int(np.flatnonzero(distances <= least + 1e-9)[-1])
            later = len(frames) - 1 - best
            for part in parts:
                if best < len(part.frames):
                    return Found(part.state_at(best), later)
                best -= len(part.frames)
        steps = _lengths(np.diff(sums, axis=0))
        longest = float(steps.max(initial=0.0))
        # one frame alone does not show how long steps are
        reach = (_ONE_STEP if len(steps) >= _FEW else _FIRST_STEPS) * longest
        near = longest <= fingerprint.rounding or distances[-1] <= reach
        last = next((part.state_at(None) for part in parts[::-1] if part.states), None)
        return Nearest(len(frames), least, last, goes_on=bool(near) and not self.damage)

    def state_after(
        self, bead: int, fingerprint: FrameFingerprint, within: float
    ) -> RegionState | None:
        """The state that the evaluation of a frame left; None if it is not here.

        Args:
            bead: of the frame.
            fingerprint: of its positions as a trajectory holds them, rounded to few digits.
            within: Å, how far the rounding may take it from the frame that was evaluated.

        Raises:
            ConfigError: a record does not hold a state.
        """
        for part in (_of(content, bead) for content in reversed(self.parts)):
            if not len(part.frames):
                continue
            distances = _lengths(part.frames[:, :COUNT] - fingerprint.sums)
            best = int(distances.argmin())
            if distances[best] <= within:
                return part.state_at(best + 1)
        return None


@dataclass(slots=True)
class _Part:
    """The records of one bead in one file."""

    frames: Scalars
    """(n, 9) sums and size of each frame."""
    states: list[tuple[int, bytes]]
    """Changes of the state, and how many frames came before."""

    def state_at(self, at: int | None) -> RegionState:
        """The state at a frame, or the last one."""
        plain: dict[str, Any] = {}
        for before, body in self.states:
            if at is not None and before > at:
                break
            plain.update(msgspec.msgpack.decode(body))
        return _region_state(plain)


def _of(part: bytes, bead: int) -> _Part:
    frames: list[bytes] = []
    states: list[tuple[int, bytes]] = []
    for kind, of, body in _records(part)[0]:
        if of != bead:
            continue
        if kind == STATE_KIND:
            states.append((len(frames), body))
        else:
            frames.append(body)
    rows = np.frombuffer(b"".join(frames), "<f8").reshape(-1, COUNT + 1)
    return _Part(rows, states)


def _lengths(rows: Scalars) -> Scalars:
    found: Scalars = np.sqrt((rows * rows).sum(axis=1))
    return found


def has_journal(folder: Path) -> bool:
    """Whether a run kept a journal."""
    return any((folder / name).exists() for name in (EARLIER, JOURNAL))


def read_journal(folder: Path) -> JournalRecords | None:
    """Read a run's journal as far as it can be read; None if the run kept none.

    Raises:
        ConfigError: a file cannot be opened, or is not a journal.
    """
    past = JournalRecords()
    for name in (EARLIER, JOURNAL):
        file = folder / name
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        if not content.startswith(MAGIC):
            if MAGIC.startswith(content):  # killed while it was made
                continue
            raise ConfigError(f"{file} must begin with {MAGIC.decode().strip()!r}, but does not")
        past.parts.append(content)
        end = _records(content)[1]
        if end < len(content):
            past.damage = f"{file.name} is damaged or cut short at byte {end} of {len(content)}"
    return past if past.parts else None


def _records(content: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """(kind, bead, body) of all records up to the first damaged one, and where that begins."""
    found = []
    at = len(MAGIC)
    while at + HEAD.size <= len(content):
        crc, length, kind, bead = HEAD.unpack_from(content, at)
        end = at + HEAD.size + length
        if end > len(content) or zlib.crc32(content[at + 4 : end]) != crc:
            break
        found.append((kind, bead, content[at + HEAD.size : end]))
        at = end
    return found, at


def _region_state(plain: dict[str, Any]) -> RegionState:
    """A state made of plain values.

    Raises:
        ConfigError: they are not those of a state.
    """
    try:
        values: dict[str, Any] = {
            FIELDS[name]: np.frombuffer(value, TYPES[name]).astype(
                np.intp if TYPES[name] == "<i4" else np.float64
            )
            if name in TYPES and value is not None
            else value
            for name, value in plain.items()
        }
        state = RegionState(**values)
        state.check()
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"this is not the state of a region: {error}") from error
    return state
