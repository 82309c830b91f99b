"""Where events go: all of them as JSON lines into a file, the serious ones to the terminal too."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure(file: Path | None, *, verbose: bool = False) -> None:
    """Set up logging for this process.

    Args:
        file: gets every event of level INFO and above as a JSON line; None for no file.
        verbose: show INFO on the terminal as well, not only warnings.
    """
    handle = file.open("a", encoding="utf-8", buffering=1) if file else None
    shown = logging.INFO if verbose else logging.WARNING
    as_json = structlog.processors.JSONRenderer(default=str)
    as_text = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)

    def to_file(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        if handle is not None:
            handle.write(str(as_json(logger, name, dict(event))) + "\n")
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
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
