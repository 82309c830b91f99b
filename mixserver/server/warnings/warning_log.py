"""The warnings of a run: each cause once, in the log, on the terminal and in `warnings.jsonl`."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import structlog

from mixserver.core.errors import ConfigError

log = structlog.get_logger(__name__)

WARNINGS: Final = "warnings.jsonl"


class RunWarning(msgspec.Struct, frozen=True):
    """One warning."""

    kind: str
    """What it is about: "temperature", "pair", ...; see `mixserver.config.schema.Warnings`."""
    message: str
    time: float = 0.0
    """Seconds since 1970."""
    evaluation: int | None = None
    """Of this server, if it is about one."""
    step: int | None = None
    """i-PI's, if it is about one."""


class WarningLog:
    """Keeps and writes the warnings of one run; may be used on any thread.

    Args:
        folder: the run's; gets `warnings.jsonl` with the first warning.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / WARNINGS
        self._lock = threading.Lock()
        self._kinds: set[str] = set()
        self.found: tuple[RunWarning, ...] = ()
        """Oldest first."""

    def warn(
        self, kind: str, message: str, *, evaluation: int | None = None, step: int | None = None
    ) -> None:
        """Warn, unless there was a warning of this kind before."""
        with self._lock:
            if kind in self._kinds:
                return
            self._kinds.add(kind)
            warning = RunWarning(kind, message, time.time(), evaluation, step)
            self.found = (*self.found, warning)
            where = {"evaluation": evaluation, "step": step}
            log.warning(message, kind=kind, **{k: v for k, v in where.items() if v is not None})
            try:
                with self._file.open("ab") as file:
                    file.write(msgspec.json.encode(warning) + b"\n")
            except OSError as error:  # a full disk must not end the run; the log has the warning
                log.info("the warning is not in its file", file=str(self._file), error=str(error))

    def warned(self, kind: str) -> bool:
        """Whether there was a warning of a kind."""
        return kind in self._kinds


def read_warnings(folder: Path) -> tuple[RunWarning, ...]:
    """The warnings of a run; a last line cut short by a crash is passed over.

    Raises:
        ConfigError: the file cannot be read, or is something else.
    """
    file = folder / WARNINGS
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=RunWarning))
        except msgspec.MsgspecError as error:
            if number < len(lines):
                raise ConfigError(f"{file}:{number} is not a warning: {error}") from error
    return tuple(found)
