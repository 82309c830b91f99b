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


def to_json(findings: Sequence[Finding]) -> str:
    """The same for machines."""
    return msgspec.json.encode(findings).decode()
