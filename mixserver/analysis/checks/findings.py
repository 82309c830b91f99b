"""Findings of checks: level, subject, message and number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    level: Level
    what: str
    """The subject in a few words: "atoms", "buffer", "forces of cheap"."""
    message: str
    """The observation; for a warning or an error also what to do."""
    figure: float | None = None
    """The number behind it, if there is one, in the unit the message says."""


def to_json(findings: Sequence[Finding]) -> str:
    """Findings as JSON."""
    return msgspec.json.encode(findings).decode()
