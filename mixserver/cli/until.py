"""`--until`: when a run has to end: a duration, a time of day, a date, or that of a Slurm job."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    _FloatType = click.ParamType[float]
else:  # it takes no type before click 8.4
    _FloatType = click.ParamType

TIME_IS_UP: Final = 75
"""Exit status of a run that ended because its time was up (EX_TEMPFAIL: try again later)."""
_SLURM_MARGIN_S: Final = 120.0
"""Seconds before the end of a Slurm job: one evaluation, and the RESTART of i-PI."""
_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_EXPECTED: Final = (
    "expected a duration such as 36h or 1d12h30m, a time of day such as 18:30, a date such as "
    "2026-12-24T18:00, or slurm for the end of the Slurm job"
)


class Until(_FloatType):
    """Turns the words into seconds since 1970."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The time at which the run has to begin to end."""
        if isinstance(value, float):
            return value
        try:
            return end_time(str(value), datetime.now(), os.environ)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def end_time(words: str, now: datetime, environment: Mapping[str, str]) -> float:
    """When a run has to begin to end, in seconds since 1970.

    Args:
        words: what was given.
        now: in the system's time zone, without naming it: in a few hours summer time may begin.
        environment: SLURM_JOB_END_TIME is looked up here.

    Raises:
        ValueError: the words mean no time, or one that is over.
    """
    text = words.strip().lower()
    if text == "slurm":
        end = environment.get("SLURM_JOB_END_TIME", "")
        if not end.isdigit():
            raise ValueError(
                "SLURM_JOB_END_TIME is not set, so the end of the Slurm job is not known; Slurm "
                "sets it since 22.05. Give a duration instead, somewhat below the job's --time"
            )
        return _ahead(float(end) - _SLURM_MARGIN_S, words, now)
    if text and _PIECE.sub("", text) == "":
        pieces = _PIECE.findall(text)
        return now.timestamp() + sum(float(n) * _SECONDS[unit] for n, unit in pieces)
    if match := re.fullmatch(r"(\d{1,2}):(\d{2})", text):
        hour, minute = int(match[1]), int(match[2])
        if hour > 23 or minute > 59:
            raise ValueError(f"{words!r} is no time of day; {_EXPECTED}")
        there = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return (there if there > now else there + timedelta(days=1)).timestamp()
    try:
        date = datetime.fromisoformat(words.strip())
    except ValueError:
        raise ValueError(f"{words!r} is no time; {_EXPECTED}") from None
    return _ahead(date.timestamp(), words, now)


def _ahead(end: float, words: str, now: datetime) -> float:
    """The time, if it is not over.

    Raises:
        ValueError: it is.
    """
    if end <= now.timestamp():
        raise ValueError(f"{words!r} is over by {now.timestamp() - end:.0f} s")
    return end
