"""Logging: all events as JSON lines to a file, warnings and errors to the terminal too.

An event with ``raised=True`` reports an error that its function raises as well; the command prints
that at its end, so the terminal does not show the event.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure(file: Path | None, *, verbose: bool = False, as_json: bool = False) -> None:
    """Set up logging for this process. A log that cannot be written does not end the run.

    Args:
        file: gets every event of level INFO and above as a JSON line; None for no file.
        verbose: show INFO on the terminal as well, not only warnings.
        as_json: show every event of level INFO and above on the terminal, as JSON lines.

    Raises:
        OSError: the file cannot be opened.
    """
    # unbuffered: a write that failed on a full disk must not fail again when the file is closed
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    handle = os.open(file, flags, 0o666) if file else None
    shown = logging.INFO if verbose or as_json else logging.WARNING
    json_line = structlog.processors.JSONRenderer(default=str)
    # 0: no padding of events; the argument's name depends on structlog's version. Tracebacks are
    # text already, of which older versions warn unless the formatter is the plain one
    as_text = structlog.dev.ConsoleRenderer(
        0,
        colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )
    terminal = _UnbreakableStream(sys.stderr)
    complained = torn = False

    def to_file(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        nonlocal complained, torn
        if handle is not None:
            line = str(json_line(logger, name, dict(event))) + "\n"
            data = ("\n" if torn else "").encode() + line.encode("utf-8", "backslashreplace")
            why = "no space left"
            try:
                torn = os.write(handle, data) < len(data)
            except OSError as problem:
                torn, why = True, problem.strerror or str(problem)
            if torn and not complained:  # reported once; logging continues when there is space
                terminal.write(f"{file} is incomplete: {why}\n")
                complained = True
        return event

    def to_terminal(logger: WrappedLogger, name: str, event: EventDict) -> Any:
        # what is raised as well is printed at the end, once
        if logging.getLevelNamesMapping().get(name.upper(), 0) < shown or (
            event.get("raised") and not as_json
        ):
            raise structlog.DropEvent
        event = {key: value for key, value in event.items() if key != "raised"}
        return (json_line if as_json else as_text)(logger, name, event)

    structlog.configure(
        processors=[
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


class _UnbreakableStream:
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
