"""Workers as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mixserver.dispatch.places import Place
from mixserver.wire.worker import Role


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, for people to look at."""

    name: str
    role: Role
    model: str
    state: Literal["idle", "busy", "overdue", "silent"]
    job: int | None
    heard_s: float
    """Seconds since it was last heard."""


def view(name: str, place: Place, now: float) -> WorkerView:
    """What a worker is doing at a time."""
    return WorkerView(
        name=name,
        role=place.role,
        model=place.card.name,
        state="silent"
        if place.silent
        else "overdue"
        if place.overdue
        else "idle"
        if place.job is None
        else "busy",
        job=place.job,
        heard_s=now - place.heard,
    )
