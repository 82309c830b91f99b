"""What a check found, as values, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    what: str
    """In one or two words: "atoms", "buffer", "forces of cheap"."""
    message: str
    """What was seen; for a warning or an error also what to do."""
    figure: float | None = None
    """The number behind it, if there is one, in the unit the message says."""


_SIGN = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def as_text(findings: Sequence[Finding]) -> str:
    """A table for people."""
    width = max((len(f.what) for f in findings), default=0)
    lines = [f"{_SIGN[f.level]}  {f.what:<{width}}  {f.message}" for f in findings]
    errors = sum(f.level == "error" for f in findings)
    warnings = sum(f.level == "warning" for f in findings)
    lines.append(f"{len(findings)} things looked at: errors {errors}, warnings {warnings}")
    return "\n".join(lines)


def to_json(findings: Sequence[Finding]) -> str:
    """The same for machines."""
    return msgspec.json.encode(findings).decode()
