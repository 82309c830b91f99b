"""Evaluations of i-PI's requests, and the connections that wait for them, as values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from mixserver.ipi.session.connection import IpiConnection
from mixserver.wire.ipi import Reply, Request

Deliver: TypeAlias = Callable[[list[Reply] | BaseException], None]
"""Receives the replies, or the reason why there are none."""


@dataclass(slots=True, eq=False)
class Evaluation:
    """The evaluation of one request."""

    request: Request
    connection: IpiConnection
    """The connection that requested it last."""
    task: asyncio.Future[None] | None = None
    outcome: Reply | BaseException | None = None
    """The reply, or the error; None while it is running."""
    began: float = field(default_factory=time.monotonic)
    waited_s: float = 0.0
    """How long connections have waited for it, one after the other."""
    left_at: float | None = None
    """time.time() when its connection was lost; None while a connection waits."""

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return isinstance(self.outcome, BaseException)


@dataclass(slots=True, eq=False)
class Waiter:
    """A connection that waits for the evaluations of one batch."""

    connection: IpiConnection
    evaluations: list[Evaluation]
    deliver: Deliver
    timer: asyncio.TimerHandle | None = None
    since: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        """Stop waiting."""
        if self.timer is not None:
            self.timer.cancel()
        for evaluation in self.evaluations:
            evaluation.waited_s += time.monotonic() - self.since


def same_request(one: Request, other: Request) -> bool:
    """Whether two requests are equal in everything that the reply may depend on."""
    return (one.slot, one.bead, one.parameters) == (
        other.slot,
        other.bead,
        other.parameters,
    ) and same_positions(one, other)


def same_positions(one: Request, other: Request) -> bool:
    """Whether two requests have the same positions and cell."""
    return np.array_equal(one.cell, other.cell) and np.array_equal(one.positions, other.positions)
