"""Structures and answers beyond the limits are refused, and workers are not blamed for them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from cells import silicon

from mixserver.config import Channel, Limits
from mixserver.core.errors import BadInput, Implausible, UpstreamError
from mixserver.server.guard import GuardedEvaluator
from mixserver.wire.ipi import Reply, Request

FRAME = silicon(2)
N = len(FRAME)


class Springs:
    """A step of springs to the sites of the crystal; fails where atoms touch, as engines do."""

    def __init__(self, offset: float = 0.0, stiffness: float = 1.0) -> None:
        self.asked = 0
        self._offset = offset
        self._stiffness = stiffness

    async def __call__(self, request: Request, channel: Channel = "mixed") -> Reply:
        self.asked += 1
        FRAME.topology.frame(request.positions, request.cell)
        away = request.positions - FRAME.positions
        gap = request.positions[1] - request.positions[0]
        if np.linalg.norm(gap) < 0.6:
            raise BadInput("job 7 was given to 3 workers and none survived it")
        return Reply(
            self._offset + 0.5 * self._stiffness * float((away**2).sum()),
            -self._stiffness * away,
            -self._stiffness * away.T @ away,
        )


def _guarded(
    step: Springs, *, mixed: bool = True, limits: Limits | None = None
) -> GuardedEvaluator:
    return GuardedEvaluator(step, FRAME.topology, limits or Limits(), mixed=mixed)


def _moved(atom: int = 0, by: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Request:
    positions = FRAME.positions.copy()
    positions[atom] += by
    return Request(positions, FRAME.cell)


def _onto_its_neighbour(apart: float) -> Request:
    positions = FRAME.positions.copy()
    positions[0] = positions[1] + [apart, 0.0, 0.0]
    return Request(positions, FRAME.cell)


async def test_what_is_sound_comes_back_as_it_is() -> None:
    step = Springs(offset=-1e9)
    guarded = _guarded(step)
    for number in range(5):
        reply = await guarded(_moved(number, (0.1, 0.0, 0.0)))
        assert reply.energy == pytest.approx(-1e9 + 0.005)
    assert step.asked == 5


async def test_overlaps_at_the_start_are_refused_before_anybody_is_asked() -> None:
    step = Springs()
    with pytest.raises(Implausible, match=r"overlap.*atom 0.*atom 1"):
        await _guarded(step)(_onto_its_neighbour(0.01))
    assert step.asked == 0


async def test_a_structure_in_the_wrong_unit_is_refused_before_anybody_is_asked() -> None:
    step = Springs()
    with pytest.raises(Implausible, match="bohr"):
        await _guarded(step)(Request(0.529 * FRAME.positions, 0.529 * FRAME.cell))
    assert step.asked == 0


async def test_workers_are_not_blamed_for_atoms_that_touch() -> None:
    guarded = _guarded(Springs())
    await guarded(_moved())
    with pytest.raises(Implausible, match=r"not the workers: .*moved by .*job 7") as caught:
        await guarded(_onto_its_neighbour(0.5))
    assert isinstance(caught.value.__cause__, BadInput)


async def test_nor_where_all_passes_through() -> None:
    with pytest.raises(Implausible, match="not the workers"):
        await _guarded(Springs(), mixed=False)(_onto_its_neighbour(0.5))


async def test_a_sound_structure_leaves_the_error_as_it_is() -> None:
    class Broken(Springs):
        async def __call__(self, request: Request, channel: Channel = "mixed") -> Reply:
            raise BadInput("an unknown element")

    with pytest.raises(BadInput, match="an unknown element"):
        await _guarded(Broken())(_moved())


@pytest.mark.parametrize(
    ("by", "stiffness", "words"),
    [
        ((2e3, 0.0, 0.0), 1.0, "limits.energy_change"),
        ((1e9, 0.0, 0.0), 1.0, "exploded"),
        ((0.1, 0.0, 0.0), 1e5, "limits.force"),
    ],
)
async def test_absurd_answers_are_not_sent(
    by: tuple[float, float, float], stiffness: float, words: str
) -> None:
    guarded = _guarded(Springs(stiffness=stiffness), limits=Limits(pressure=np.inf))
    await guarded(_moved())
    with pytest.raises(Implausible, match=words):
        await guarded(_moved(0, by))


async def test_switched_off_limits_let_all_pass() -> None:
    off = Limits(energy_change=np.inf, force=np.inf, pressure=np.inf, density=np.inf)
    guarded = _guarded(Springs(stiffness=1e9), limits=off)
    for far in (0.0, 1.0, 1e4):
        await guarded(_moved(0, (far, 0.0, 0.0)))


async def test_what_passes_through_is_not_judged() -> None:
    guarded = _guarded(Springs(stiffness=1e9), mixed=False)
    for far in (0.0, 1.0, 1e9):
        await guarded(_moved(0, (far, 0.0, 0.0)))


async def test_replicas_with_energies_of_their_own_pass() -> None:
    """An image of a band, or a hot replica, may be 50 eV per atom above the first."""
    guarded = _guarded(Springs(stiffness=10.0))
    rng = np.random.default_rng(0)
    for heat in (0.0, 3.0, 0.1, 3.0):
        moved = FRAME.positions + heat * rng.normal(size=(N, 3)) * [1.0, 0.0, 0.0]
        crowd = Limits(shortest_pair=0.0, density=np.inf, force=np.inf)
        guarded._limits = crowd
        await guarded(Request(moved, FRAME.cell))


async def test_what_makes_no_sense_is_told_by_the_step() -> None:
    guarded = _guarded(Springs())
    with pytest.raises(UpstreamError, match="atoms"):
        await guarded(Request(FRAME.positions[1:], FRAME.cell))
    with pytest.raises(UpstreamError, match="not finite"):
        await guarded(_moved(0, (np.nan, 0.0, 0.0)))


async def test_another_replica_is_no_measure_of_how_far_atoms_have_moved() -> None:
    """Replicas ask in turn, and nothing says which is which."""
    off = Limits(energy_change=np.inf, force=np.inf, pressure=np.inf)

    class Tired(Springs):
        async def __call__(self, request: Request, channel: Channel = "mixed") -> Reply:
            if self.asked == 4:
                raise BadInput("no memory left on the GPU")
            return await super().__call__(request, channel)

    async def failure(last: Request) -> str:
        guarded = _guarded(Tired(), limits=off)
        for far in (0.0, 2.71, 0.01, 2.72):
            await guarded(_moved(7, (far, 0.0, 0.0)))
        with pytest.raises(BadInput, match="no memory") as caught:
            await guarded(last)
        return str(caught.value)

    assert await failure(_moved(7, (0.02, 0.0, 0.0))) == "no memory left on the GPU"
    wrapped = _moved(7, (2.73 - FRAME.cell[0, 0], 0.0, 0.0))
    assert await failure(wrapped) == "no memory left on the GPU"
    assert "moved by 1.2 Å" in await failure(_moved(7, (3.92, 0.0, 0.0)))


async def test_a_look_that_was_cut_short_is_made_up_for() -> None:
    """i-PI went while all distances were looked at; it comes back with atoms that overlap."""
    step = Springs()
    guarded = _guarded(step)
    first = asyncio.create_task(guarded(_moved()))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    for _ in range(2):  # and a refusal is no look that was passed
        with pytest.raises(Implausible, match="overlap"):
            await guarded(_onto_its_neighbour(0.01))
    assert step.asked == 0
