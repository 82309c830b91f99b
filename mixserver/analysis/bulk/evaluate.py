"""The function through which bulk properties evaluate a model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.jobs import whole_system_job
from mixserver.wire.worker import Result, Role

FIRST_STREAM: Final = 1 << 30
"""First stream number of bulk properties, far from those of runs."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Energy, forces and virial of one frame."""

    energy: float
    """eV."""
    forces: Vectors
    """(N, 3) eV/Å."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""


EvaluateFn: TypeAlias = Callable[[Frame], Awaitable[EvaluationResult]]
"""Evaluates a frame. Calls may be concurrent, and their frames may have different atoms."""


_A = TypeVar("_A")
_B = TypeVar("_B")


async def gather_all(awaitables: Iterable[Awaitable[_A]]) -> list[_A]:
    """Await all concurrently; if one fails, the others are cancelled first."""
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def gather_pair(first: Awaitable[_A], second: Awaitable[_B]) -> tuple[_A, _B]:
    """`gather_all` for two results of different types."""
    pair: list[Awaitable[Any]] = [first, second]
    one, other = await gather_all(pair)
    return one, other


async def evaluate_whole(
    dispatcher: Dispatcher, role: Role, frame: Frame, *, stream: int, weight: Scalars | None = None
) -> Result:
    """The result of a model for all atoms of a frame, with site weights (N,) if they are given."""
    job = whole_system_job(frame, stream=stream, weight=weight)
    (reply,) = await dispatcher.run([(role, job)])
    return reply.result


def model_evaluator(
    dispatcher: Dispatcher, role: Role, *, stream: int = FIRST_STREAM
) -> EvaluateFn:
    """A function that evaluates the model of a role for all atoms, without weights.

    Each set of atoms gets a stream of its own, from `stream` on, so that engines keep their
    neighbour lists when evaluations of several crystals alternate.
    """
    streams: dict[tuple[bytes, tuple[bool, bool, bool]], int] = {}

    async def evaluate(frame: Frame) -> EvaluationResult:
        topology = frame.topology
        key = (topology.numbers.tobytes(), topology.pbc)
        number = streams.setdefault(key, stream + len(streams))
        result = await evaluate_whole(dispatcher, role, frame, stream=number)
        virial = 0.5 * (result.virial + result.virial.T)
        return EvaluationResult(result.energy, result.forces, virial)

    return evaluate
