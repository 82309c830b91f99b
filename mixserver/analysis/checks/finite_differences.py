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
"""Relative error of a directional derivative that rounding explains, or the interpolation in a fine
table (4e-7 where energies and forces are interpolated separately, as LAMMPS does)."""
_FINER = 0.05
"""Of a step, in double precision, with which a small difference is measured again: where second
derivatives jump at a cutoff, the formula has an error of its own, which falls with the step. For a
distilled silicon potential it is up to 3e-5 with steps of 2e-3 Å and 1e-6 with 2e-4 Å."""
_CROSSING = 1e-3
"""The largest relative error that such atoms at a cutoff explain."""
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
    direction = rng.normal(size=positions.shape)
    strain = rng.normal(size=(3, 3))
    strain = (strain + strain.T) / 2.0

    def moved(step: float) -> Awaitable[Result | MixedResult]:
        return at(positions + step * direction, cell)

    def strained(step: float) -> Awaitable[Result | MixedResult]:
        deformed = np.eye(3) + step * strain
        return at(positions @ deformed, cell @ deformed)

    try:
        base = await at(positions, cell)
        force, push = float(np.vdot(base.forces, direction)), float(np.vdot(base.virial, strain))
        size = float(np.linalg.norm(base.forces)), float(np.linalg.norm(base.virial))
        forces = await _errors(moved, force, size[0], _STEP[precision], precision)
        virial = await _errors(strained, push, size[1], _STRAIN[precision], precision)
    except MixserverError as error:
        return [Finding("error", f"forces of {whose}", str(error))]
    return [
        _judge(f"forces of {whose}", forces, _NOISE[precision], causes),
        _judge(f"virial of {whose}", virial, _NOISE[precision], causes),
    ]


async def _errors(
    at: Callable[[float], Awaitable[Result | MixedResult]],
    analytic: float,
    scale: float,
    step: float,
    precision: str,
) -> list[float]:
    """The relative error of a derivative with this step; if it may be the formula's, a finer one's.

    `at` evaluates a distance along a path, `analytic` is minus the derivative of the energy there.
    """

    async def error(step: float) -> float:
        energies = [
            answer.energy for answer in await asyncio.gather(*(at(k * step) for k in STENCIL))
        ]
        return abs(analytic + central_slope(energies, step)) / max(scale, 1e-3)

    errors = [await error(step)]
    if precision == "float64" and _NOISE[precision] < errors[0] <= _CROSSING:
        errors.append(await error(_FINER * step))
    return errors


def _judge(what: str, errors: list[float], allowed: float, causes: tuple[str, str]) -> Finding:
    error = errors[-1]
    if error <= allowed:
        words = f"agrees with differences of the energy to {error:.1e} of its size"
        if len(errors) > 1:
            words += f" (with larger steps to {errors[0]:.1e}: second derivatives jump at a cutoff)"
        return Finding("ok", what, words, error)
    words = f"differs from differences of the energy by {error:.1e} of its size"
    if error <= _WRONG:
        words += f", more than rounding explains: {causes[0]}"
        return Finding("warning", what, words, error)
    return Finding("error", what, f"{words}: {causes[1]}", error)
