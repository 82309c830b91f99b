"""The check of forces and virials against finite differences of the energy.

Works for one model and for two mixed ones: it needs a function of positions and cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import numpy as np

from mixserver.analysis.checks.findings import Finding
from mixserver.core.arrays import Matrix, Vectors
from mixserver.core.errors import MixserverError
from mixserver.core.finite_difference import STENCIL, central_slope
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.mixer import MixedResult, Mixer
from mixserver.region.region import Region
from mixserver.server.mixers import evaluate
from mixserver.wire.worker import Evaluate, Result, Role

SHAKE = 0.05
"""Å of random displacements before a check: in a perfect crystal wrong forces vanish too."""
_STEP = {"float64": 2e-3, "float32": 1e-2}
"""Å, rms displacement per atom of the finite differences (fourth order), by precision."""
_STRAIN = {"float64": 5e-4, "float32": 2e-3}
_NOISE = {"float64": 1e-5, "float32": 3e-2}
"""Relative error of a directional derivative that rounding explains."""
_WRONG = 5e-2
"""Relative error that neither a coarse table nor a jump at a cutoff explains."""

ONE_MODEL = (
    "a coarse table, or a jump at the cutoff; energies drift by as much",
    "the model or its input file is wrong, or it has no energy that belongs to its forces",
)
"""Possible causes of a small and of a large difference, for one model."""
TWO_MODELS = (
    "a model that is no better by itself (see above), or a halo thinner than exact; energies drift "
    "by as much",
    "if both models agree with their own energies (see above), the mixing is wrong: please report "
    "it, and use mixing.kind = 'force' meanwhile",
)
"""Possible causes for two mixed models."""


At: TypeAlias = "Callable[[Vectors, Matrix], Awaitable[Result | MixedResult]]"
"""Evaluates positions (n, 3) Å in a cell (3, 3) Å."""


def of_model(dispatcher: Dispatcher, role: Role, question: Evaluate) -> At:
    """A model's job at other positions."""

    async def at(positions: Vectors, cell: Matrix) -> Result | MixedResult:
        moved = msgspec.structs.replace(question, positions=positions, cell=cell)
        (answer,) = await dispatcher.run([(role, moved)])
        return answer.result

    return at


def of_mixed(
    dispatcher: Dispatcher, mixer: Mixer, start: Frame, divide: Callable[[Frame], Region]
) -> At:
    """Two models, mixed as in a run."""

    async def at(positions: Vectors, cell: Matrix) -> Result | MixedResult:
        frame = start.topology.frame(positions, cell)
        return await evaluate(dispatcher, mixer, frame, divide(frame))

    return at


def shaken(start: Frame, seed: int = 10) -> Frame:
    """The frame with random displacements of `SHAKE`."""
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
    causes: tuple[str, str] = ONE_MODEL,
) -> list[Finding]:
    """Compare forces and virial with differences of the energy, along a random direction each.

    Positions (n, 3) Å are displaced at random; `dtype` is the lowest precision involved; `causes`
    are possible ones of a small and of a large difference.
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
    analytic = float(np.vdot(base.forces, direction))
    pushed = float(np.vdot(base.virial, strain))
    size, push = float(np.linalg.norm(base.forces)), float(np.linalg.norm(base.virial))
    allowed = _NOISE[precision]
    return [
        _compare(f"forces of {whose}", analytic, -moved, size, allowed, causes),
        _compare(f"virial of {whose}", pushed, -strained, push, allowed, causes),
    ]


def _stencil(step: float) -> tuple[float, ...]:
    return tuple(k * step for k in STENCIL)


async def _slope(asked: list[Awaitable[Result | MixedResult]], step: float) -> float:
    energies = [answer.energy for answer in await asyncio.gather(*asked)]
    return central_slope(energies, step)


def _compare(
    what: str,
    analytic: float,
    measured: float,
    scale: float,
    allowed: float,
    causes: tuple[str, str],
) -> Finding:
    error = abs(analytic - measured) / max(scale, 1e-3)
    if error <= allowed:
        words = f"agrees with differences of the energy to {error:.1e} of its size"
        return Finding("ok", what, words, error)
    words = f"differs from differences of the energy by {error:.1e} of its size"
    if error <= _WRONG:
        words += f", more than rounding explains: {causes[0]}"
        return Finding("warning", what, words, error)
    return Finding("error", what, f"{words}: {causes[1]}", error)
