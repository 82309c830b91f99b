"""Where events go: all of them as JSON lines into a file, the serious ones to the terminal too."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure(file: Path | None, *, verbose: bool = False) -> None:
    """Set up logging for this process. A log that cannot be written never ends what it is about.

    Args:
        file: gets every event of level INFO and above as a JSON line; None for no file.
        verbose: show INFO on the terminal as well, not only warnings.

    Raises:
        OSError: the file cannot be opened.
    """
    # not buffered: what a full disk did not take must not fail again when the file is closed
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    handle = os.open(file, flags, 0o666) if file else None
    shown = logging.INFO if verbose else logging.WARNING
    as_json = structlog.processors.JSONRenderer(default=str)
    as_text = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    terminal = _Forgiving(sys.stderr)
    complained = torn = False

    def to_file(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        nonlocal complained, torn
        if handle is not None:
            line = str(as_json(logger, name, dict(event))) + "\n"
            data = ("\n" if torn else "").encode() + line.encode("utf-8", "backslashreplace")
            why = "no room for more"
            try:
                torn = os.write(handle, data) < len(data)
            except OSError as problem:
                torn, why = True, problem.strerror or str(problem)
            if torn and not complained:  # once is enough: it goes on when there is room again
                terminal.write(f"{file} lacks lines: {why}\n")
                complained = True
        return event

    def to_terminal(logger: WrappedLogger, name: str, event: EventDict) -> Any:
        if logging.getLevelNamesMapping().get(name.upper(), 0) < shown:
            raise structlog.DropEvent
        return as_text(logger, name, event)

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S"),
            structlog.processors.format_exc_info,
            to_file,
            to_terminal,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, terminal)),
        cache_logger_on_first_use=False,
    )


class _Forgiving:
    """A text stream whose reader may have gone, or whose disk may be full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if there is somewhere to write to."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if there is somewhere to."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
