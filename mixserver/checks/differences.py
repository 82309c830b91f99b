"""Forces and virials against finite differences of the energy, for whatever has all three.

Knows positions and cells, and somebody who evaluates them: one model, or two of them mixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import msgspec
import numpy as np

from mixserver.arrays import Matrix, Vectors
from mixserver.checks.findings import Finding
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.errors import MixserverError
from mixserver.frame import Frame
from mixserver.mixing.mixer import Mixer
from mixserver.prepare import evaluate
from mixserver.region.region import Region
from mixserver.wire.worker import Evaluate, Role

SHAKE = 0.05
"""Å by which atoms are shaken first: in a perfect crystal every wrong force is zero too."""
_STEP = {"float64": 2e-3, "float32": 1e-2}
"""Å, rms move per atom of the finite differences (fourth order), by the precision."""
_STRAIN = {"float64": 5e-4, "float32": 2e-3}
_NOISE = {"float64": 1e-5, "float32": 3e-2}
"""Relative error of a directional derivative that is still noise."""
_WRONG = 5e-2
"""Relative error that no table or jump at a cutoff explains."""

ONE_MODEL = (
    "a coarse table, or a jump at the cutoff; energies drift by as much",
    "the model or its input file is wrong, or it has no energy that belongs to its forces",
)
"""What may be behind a small and behind a large difference of one model."""
TWO_MODELS = (
    "a model that is no better by itself (see above), or a halo thinner than exact; energies drift "
    "by as much",
    "if both models agree with their own energies (see above), the mixing is wrong: please report "
    "it, and use mixing.kind = 'force' meanwhile",
)
"""The same of two models mixed."""


class Evaluated(Protocol):
    """An energy (eV), and the forces (N, 3) eV/Å and virial (3, 3) eV that shall belong to it."""

    @property
    def energy(self) -> float:
        """Energy, eV."""

    @property
    def forces(self) -> Vectors:
        """(N, 3) eV/Å."""

    @property
    def virial(self) -> Matrix:
        """(3, 3) eV, -dE/dstrain."""


At: TypeAlias = Callable[[Vectors, Matrix], Awaitable[Evaluated]]
"""Evaluates positions (n, 3) Å in a cell (3, 3) Å."""


def of_model(dispatcher: Dispatcher, role: Role, question: Evaluate) -> At:
    """One model, asked the same question about other positions."""

    async def at(positions: Vectors, cell: Matrix) -> Evaluated:
        moved = msgspec.structs.replace(question, positions=positions, cell=cell)
        (answer,) = await dispatcher.run([(role, moved)])
        return answer.result

    return at


def of_mixed(
    dispatcher: Dispatcher, mixer: Mixer, start: Frame, divide: Callable[[Frame], Region]
) -> At:
    """Two models, mixed as a run would mix them at each of the positions."""

    async def at(positions: Vectors, cell: Matrix) -> Evaluated:
        frame = start.topology.frame(positions, cell)
        return await evaluate(dispatcher, mixer, frame, divide(frame))

    return at


def shaken(start: Frame, seed: int = 10) -> Frame:
    """A frame whose atoms were moved at random by `SHAKE`."""
    rng = np.random.default_rng(seed)
    moved = start.positions + rng.normal(scale=SHAKE, size=start.positions.shape)
    return start.topology.frame(moved, start.cell)


async def check_differences(
    whose: str,
    at: At,
    positions: Vectors,
    cell: Matrix,
    *,
    dtype: str,
    behind: tuple[str, str] = ONE_MODEL,
) -> list[Finding]:
    """Compare forces and virial with differences of the energy, along a random direction each.

    Args:
        whose: "cheap", "expensive", "the mixed energy".
        at: evaluates.
        positions: (n, 3) Å, shaken.
        cell: (3, 3) Å.
        dtype: the lowest precision that takes part.
        behind: what may be behind a small and behind a large difference.
    """
    rng = np.random.default_rng(20)
    precision = "float64" if dtype == "float64" else "float32"
    step, stretch = _STEP[precision], _STRAIN[precision]
    direction = rng.normal(size=positions.shape)
    strain = rng.normal(size=(3, 3))
    strain = (strain + strain.T) / 2.0
    try:
        base = await at(positions, cell)
        moved = await _slope([at(positions + s * direction, cell) for s in _stencil(step)], step)
        deformed = [np.eye(3) + s * strain for s in _stencil(stretch)]
        strained = await _slope([at(positions @ d, cell @ d) for d in deformed], stretch)
    except MixserverError as error:
        return [Finding("error", f"forces of {whose}", str(error))]
    said = float(np.vdot(base.forces, direction))
    pushed = float(np.vdot(base.virial, strain))
    size, push = float(np.linalg.norm(base.forces)), float(np.linalg.norm(base.virial))
    allowed = _NOISE[precision]
    return [
        _compare(f"forces of {whose}", said, -moved, size, allowed, behind),
        _compare(f"virial of {whose}", pushed, -strained, push, allowed, behind),
    ]


def _stencil(step: float) -> tuple[float, ...]:
    return (-2 * step, -step, step, 2 * step)


async def _slope(asked: list[Awaitable[Evaluated]], step: float) -> float:
    e = [answer.energy for answer in await asyncio.gather(*asked)]
    return (8.0 * (e[2] - e[1]) - (e[3] - e[0])) / (12.0 * step)


def _compare(
    what: str, said: float, measured: float, scale: float, allowed: float, behind: tuple[str, str]
) -> Finding:
    error = abs(said - measured) / max(scale, 1e-3)
    if error <= allowed:
        words = f"agrees with differences of the energy to {error:.1e} of its size"
        return Finding("ok", what, words, error)
    words = f"differs from differences of the energy by {error:.1e} of its size"
    if error <= _WRONG:
        words += f", more than rounding explains: {behind[0]}"
        return Finding("warning", what, words, error)
    return Finding("error", what, f"{words}: {behind[1]}", error)
