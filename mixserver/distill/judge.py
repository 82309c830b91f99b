"""How good a cheap potential is: asked of a running worker, next to the expensive model.

Everything that is not linear in coefficients: the crystal at rest, the division of energy among
atoms of hot structures, what an evaluation costs. Knows the dispatcher only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from mixserver.arrays import Scalars
from mixserver.crystal.supercell import for_atoms, repeated
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.labelled import Structure
from mixserver.frame import Frame
from mixserver.mixing.mixer import about_all
from mixserver.wire.worker import Evaluate, Role

_STREAM: Final = 1 << 29
_ATOMS: Final = 1000
_TIMES: Final = 7
_MOVE: Final = 0.02
"""Å by which atoms move from one timed evaluation to the next."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one evaluation."""

    microseconds: float
    """Per atom, the median, with site energies and virial."""
    spread: float
    """Half the range of the middle half."""


async def cost(dispatcher: Dispatcher, role: Role, crystal: Frame, *, atoms: int = _ATOMS) -> Cost:
    """Time a model on a supercell whose atoms move a little; what the engine says it took.

    Args:
        dispatcher: with one worker of the role, on one thread.
        role: whose model.
        crystal: a cell of it.
        atoms: at least so many.
    """
    frame = repeated(crystal, for_atoms(crystal, atoms))
    rng = np.random.default_rng(0)
    positions = frame.positions.copy()
    times = []
    for number in range(_TIMES + 2):
        positions += rng.normal(0.0, _MOVE, positions.shape)
        moved = frame.topology.frame(positions.copy(), frame.cell)
        question = msgspec.structs.replace(about_all(moved), stream=_STREAM, energies=True)
        (answer,) = await dispatcher.run([(role, question)])
        if number > 1:  # the first sets up, the second builds lists
            times.append(1e6 * answer.result.seconds / len(frame))
    low, middle, high = statistics.quantiles(times, n=4)
    return Cost(middle, 0.5 * (high - low))


async def site_energies(
    dispatcher: Dispatcher, role: Role, structures: Sequence[Structure]
) -> list[Scalars]:
    """Site energies (N,) eV of each structure."""
    questions: list[tuple[Role, Evaluate]] = [
        (
            role,
            Evaluate(
                job=0,
                stream=_STREAM + 1 + at,
                positions=structure.positions,
                numbers=structure.numbers,
                cell=structure.cell,
                pbc=(True, True, True),
                energies=True,
            ),
        )
        for at, structure in enumerate(structures)
    ]
    answers = await dispatcher.run(questions)
    return [np.asarray(answer.result.energies) for answer in answers]


def spread(
    expensive: Sequence[Scalars], cheap: Sequence[Scalars], structures: Sequence[Structure]
) -> float:
    """eV, rms of e_i - c_i less its mean over each element."""
    difference = np.concatenate([e - c for e, c in zip(expensive, cheap, strict=True)])
    numbers = np.concatenate([structure.numbers for structure in structures])
    for number in np.unique(numbers):
        same = numbers == number
        difference[same] -= difference[same].mean()
    return float(np.sqrt(np.mean(difference**2)))
