"""The journal of region states: every evaluation, in a file that survives a killed server.

Each record is written by one call before the reply is sent, so the file holds every frame that i-PI
can continue from. Only changes are written. Two files of bounded size follow each other, each
readable by itself.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from mixserver.region.fingerprint import COUNT, FrameFingerprint
from mixserver.region.hysteresis import STORED_AS, RegionState

log = structlog.get_logger(__name__)

JOURNAL: Final = "region.journal"
EARLIER: Final = "region.journal.old"
MOST_BYTES: Final = 64 << 20
"""Of each of the two files."""
MOST_RECORDS: Final = 100_000
"""In each of the two files, so that reading them takes a second at most."""

MAGIC: Final = b"mixserver region journal 1\n"
HEAD: Final = struct.Struct("<IIBxxxi")
"""CRC-32 of what follows, length of the body, kind, bead."""
_FRAME: Final = struct.Struct(f"<{COUNT}dd")
STATE_KIND: Final = 1
_FRAME_KIND: Final = 2
TYPES: Final = {
    **dict.fromkeys(("active", "chosen", "target"), "<i4"),
    **dict.fromkeys(("expensive", "summed", "targeted"), "<f8"),
}
FIELDS: Final = {name: field for field, name in STORED_AS.items()}
"""The fields of a state by their names in the file."""


class Journal:
    """Writes the region states of one run.

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
        """Per bead, what was last written."""
        self._broken = False

    def write_state(self, bead: int, state: RegionState) -> None:
        """Write what has changed of a bead's state since it was last written."""
        now = {name: getattr(state, field) for name, field in FIELDS.items()}
        before = self._known.get(bead)
        changed = {
            name: value
            for name, value in now.items()
            # arrays of a state are replaced, never changed
            if before is None
            or not (before[name] is value or (name not in TYPES and before[name] == value))
        }
        if changed:
            self._known[bead] = now
            self._append(_state(bead, changed))

    def write_frame(self, bead: int, fingerprint: FrameFingerprint) -> None:
        """Write that a bead is evaluated at a frame, from the state that was written last."""
        sums = fingerprint.sums.tolist()
        self._append(_record(_FRAME_KIND, bead, _FRAME.pack(*sums, fingerprint.size)))

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
                if record[8] == STATE_KIND:  # it is among those that begin the file
                    return
            self._write(record)
        except OSError as error:
            self._broken = True
            self.close()
            log.warning(
                "the journal of region states cannot be written any more; a restart from later "
                "steps will be refused",
                folder=str(self.folder),
                error=str(error),
            )

    def _begin(self) -> None:
        """Begin the next file with the states of all beads, so that it can be read by itself."""
        file = self.folder / JOURNAL
        if self._file is not None:
            self.close()
            file.replace(self.folder / EARLIER)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._bytes = self._records = 0
        whole = [_state(bead, known) for bead, known in self._known.items()]
        self._write(MAGIC + b"".join(whole))

    def _write(self, content: bytes) -> None:
        if self._file is None:
            raise OSError("the journal is closed")
        self._bytes += len(content)
        self._records += 1
        while content:
            content = content[os.write(self._file, content) :]


def _record(kind: int, bead: int, body: bytes) -> bytes:
    rest = HEAD.pack(0, len(body), kind, bead)[4:] + body
    return struct.pack("<I", zlib.crc32(rest)) + rest


def _state(bead: int, values: dict[str, Any]) -> bytes:
    plain = {
        name: value
        if value is None or name not in TYPES
        else np.asarray(value, dtype=TYPES[name]).tobytes()
        for name, value in values.items()
    }
    return _record(STATE_KIND, bead, msgspec.msgpack.encode(plain))
