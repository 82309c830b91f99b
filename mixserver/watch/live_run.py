"""The run that a page shows: its status, and what its folder holds. Used by one thread at a time.

Everything is read at most once a second however many pages ask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mixserver.analysis.find_run import run_label
from mixserver.core.errors import ConfigError, MixserverError, Unreachable
from mixserver.server.runs import is_running, read_run_info, was_killed
from mixserver.server.status.place import run_of
from mixserver.server.warnings.warning_log import read_warnings
from mixserver.watch.curves import Curves
from mixserver.watch.packed_frame import Packer
from mixserver.watch.stored_frames import StoredFrames
from mixserver.wire.status import Status

_FRESH_S: Final = 0.9
"""For how long an answer is given again."""


class RunFiles:
    """What the page reads of one run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.curves = Curves(folder)
        self.frames = StoredFrames(folder)
        self.packer = Packer()

    def update(self) -> None:
        """Read what is new."""
        self.curves.update()
        self.frames.update()


class LiveRun:
    """A run that goes on or is over, for any number of pages.

    Args:
        target: a case, a run's folder, a folder of runs, or an address.
        ask: asks the server of the target; see `mixserver.cli.asking`.
    """

    def __init__(self, target: str, ask: Callable[[], Status]) -> None:
        self._target = target
        self._ask = ask
        self._lock = threading.Lock()
        self._files: RunFiles | None = None
        self._state = b""
        self._state_at = -_FRESH_S

    def state(self) -> bytes:
        """JSON of what the page shows, but for curves and frames."""
        with self._lock:
            if time.monotonic() - self._state_at >= _FRESH_S:
                self._state = msgspec.json.encode(self._read())
                self._state_at = time.monotonic()
            return self._state

    def curves(self) -> bytes:
        """JSON of the curves, as `Curves.as_json` has them."""
        with self._lock:
            curves = {} if self._files is None else self._files.curves.as_json()
            return msgspec.json.encode(curves)

    def frame(self, at: int) -> bytes:
        """A stored frame, as `Packer.pack` has it.

        Raises:
            IndexError: there is no such frame.
            ConfigError: it cannot be read.
        """
        with self._lock:
            if self._files is None:
                raise IndexError(at)
            return self._files.packer.pack(self._files.frames.read(at))

    def _read(self) -> dict[str, Any]:
        status, silent = None, ""
        try:
            status = self._ask()
        except MixserverError as error:
            silent = str(error)
        folder, no_folder = self._folder(status)
        if folder is None:
            self._files = None
        elif self._files is None or self._files.folder != folder:
            self._files = RunFiles(folder)
        found: dict[str, Any] = {
            "time": time.time(),
            "name": self._target if folder is None else run_label(folder),
            "folder": "" if folder is None else str(folder),
            "status": status,
            "silent": silent,
            "no_folder": no_folder,
            "ended": "" if folder is None or status is not None else _ended(folder),
            "warnings": () if status is None else status.warnings,
            "frames": 0,
            "curves": 0,
        }
        files = self._files
        if files is not None:
            files.update()
            found |= {
                "frames": len(files.frames),
                "frames_words": files.frames.words,
                "curves": files.curves.version,
                "unreadable": files.curves.unreadable,
                "latest": files.curves.latest(),
            }
            if status is None:
                found["warnings"] = _warnings(files.folder)
        return found

    def _folder(self, status: Status | None) -> tuple[Path | None, str]:
        """The run's folder, or None and why it is not there."""
        if "://" not in self._target:
            try:
                return run_of(Path(self._target)).resolve(), ""
            except (Unreachable, ConfigError) as error:
                return None, str(error)
        if status is None:
            return (None if self._files is None else self._files.folder), ""
        folder = Path(status.run)
        # the same path on another machine may be another run
        if (folder / "run.json").is_file() and is_running(folder):
            return folder.resolve(), ""
        return None, (
            "Atoms and curves are read from the run's folder, which is not on this machine: "
            f"{status.run} on {status.host}. Start mixserver watch there and come through ssh"
        )


def _ended(folder: Path) -> str:
    """How the run ended, for people."""
    if was_killed(folder):
        return "killed"
    if is_running(folder):
        return ""
    try:
        about = read_run_info(folder)
    except ConfigError as error:
        return f"over; {error}"
    return (about.ended if about is not None else "") or "over"


def _warnings(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(warning.message for warning in read_warnings(folder))
    except ConfigError as error:
        return (str(error),)
