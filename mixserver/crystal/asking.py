"""The one function through which a model is asked about crystals.

Knows the dispatcher, and nothing of what is asked for what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from mixserver.arrays import Matrix, Vectors
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.frame import Frame
from mixserver.mixing.mixer import about_all
from mixserver.wire.worker import Role

STREAM: Final = 1 << 30
"""First stream number of crystals, far from those of runs."""


@dataclass(frozen=True, eq=False)
class Label:
    """What a model says of a frame."""

    energy: float
    """eV."""
    forces: Vectors
    """(N, 3) eV/Å."""
    virial: Matrix
    """(3, 3) eV, -dE/dstrain, symmetric."""


Ask: TypeAlias = Callable[[Frame], Awaitable[Label]]
"""Evaluates a frame. Frames may differ in their atoms, and several may be asked about at once."""


_A = TypeVar("_A")
_B = TypeVar("_B")


async def together(asked: Iterable[Awaitable[_A]]) -> list[_A]:
    """Await all at once; where one fails the others are given up, and nobody works on for them."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def both(first: Awaitable[_A], second: Awaitable[_B]) -> tuple[_A, _B]:
    """The same of two that are not alike."""
    pair: list[Awaitable[Any]] = [first, second]
    one, other = await together(pair)
    return one, other


def asking(dispatcher: Dispatcher, role: Role, *, stream: int = STREAM) -> Ask:
    """A model asked through the dispatcher, about all atoms and without weights.

    Args:
        dispatcher: must be open.
        role: whose model.
        stream: the first stream number used. Every set of atoms gets a stream of its own, so that
            engines which remember neighbour lists are not set up anew when questions about several
            crystals take turns.
    """
    streams: dict[tuple[bytes, tuple[bool, bool, bool]], int] = {}

    async def ask(frame: Frame) -> Label:
        topology = frame.topology
        key = (topology.numbers.tobytes(), topology.pbc)
        number = streams.setdefault(key, stream + len(streams))
        question = msgspec.structs.replace(about_all(frame), stream=number)
        (answer,) = await dispatcher.run([(role, question)])
        result = answer.result
        return Label(result.energy, result.forces, 0.5 * (result.virial + result.virial.T))

    return ask
