"""Relaxation of crystals with one model: atoms at fixed cell, or atoms and cell together.

Both use `minimise.minimised`. All moves are sums of forces and stresses, so a crystal keeps its
symmetry, and its cell does not rotate.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mixserver.analysis.bulk.evaluate import EvaluateFn, EvaluationResult
from mixserver.analysis.bulk.force_constants import compliance
from mixserver.analysis.bulk.lattice import check_bulk
from mixserver.analysis.bulk.minimise import InverseHessian, Point, minimised
from mixserver.core.arrays import Block, Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame

_FORCE_CONSTANT: Final = 10.0
"""eV/Å², a rough guess for one atom."""
_ELASTIC_CONSTANT: Final = 0.6
"""eV/Å³, a rough guess."""
_LEVER: Final = 3.0
"""Å by which strains are multiplied, so that they are coordinates like positions."""
_LONGEST: Final = 0.1
"""Å, the longest move of an atom; for the cell a strain of 3 %."""
_FORCE_NOISE: Final = 5e-5
"""eV/Å that forces in single precision may not fall below."""
_CRYSTAL_NOISE: Final = 5.0
"""Times the tolerances that forces and stresses in single precision may not fall below."""
_MAX_VOLUME_RATIO: Final = 1.3
_STEPS: Final = 300


async def relax_atoms(
    evaluate: EvaluateFn,
    frame: Frame,
    constants: Block | None = None,
    *,
    force: float = 1e-6,
    steps: int = _STEPS,
) -> Frame:
    """The frame with relaxed atoms at fixed cell.

    Takes a few evaluations with the force constants of the crystal (in this cell or a similar one),
    tens without them. Forces in single precision may not reach the tolerance `force` (eV/Å, of the
    largest); the relaxation then ends where they no longer fall, if they are below 5e-5.

    Raises:
        ConfigError: the relaxation does not converge, or the force constants are not positive or
            have the wrong shape.
    """
    n = len(frame)

    def displaced(x: Scalars) -> Frame:
        return frame.topology.frame(frame.positions + x.reshape(n, 3), frame.cell)

    async def at(x: Scalars) -> Point:
        result = await evaluate(displaced(x))
        forces = result.forces - result.forces.mean(axis=0)
        largest = float(np.linalg.norm(forces, axis=1).max())
        return Point(result.energy, -forces.ravel(), largest / force)

    x = await minimised(
        f"the structure of {n} atoms",
        at,
        np.zeros(3 * n),
        inverse=_inverse_hessian(n, constants),
        longest=_LONGEST,
        noise=_FORCE_NOISE / force,
        steps=steps,
    )
    return displaced(x)


async def relax_crystal(
    evaluate: EvaluateFn, start: Frame, *, force: float = 1e-5, stress: float = 1e-6
) -> Frame:
    """The crystal with relaxed cell and positions, from any cell near its equilibrium.

    Tolerances are for the largest force (eV/Å) and component of the stress (eV/Å³).

    Raises:
        ConfigError: the relaxation does not converge, or this is not a bulk crystal.
    """
    check_bulk(start)
    n, topology, volume = len(start), start.topology, start.volume

    def deformed(x: Scalars) -> Frame:
        moved, strain = _split(x, n)
        deformation = np.eye(3) + strain
        ratio = float(np.linalg.det(deformation))
        if not 1.0 / _MAX_VOLUME_RATIO < ratio < _MAX_VOLUME_RATIO:
            raise ConfigError(
                f"the structure is no bulk crystal of this model: while it relaxes, its volume "
                f"changes from {volume / n:.4g} to {volume * ratio / n:.4g} Å³ per atom. Begin "
                "nearer to equilibrium, without vacuum"
            )
        return topology.frame((start.positions + moved) @ deformation, start.cell @ deformation)

    async def at(x: Scalars) -> Point:
        frame = deformed(x)
        result = await evaluate(frame)
        deformation = np.eye(3) + _split(x, n)[1]
        slope = -np.linalg.solve(deformation.T, result.virial)
        gradient = _joined(-result.forces @ deformation.T, 0.5 * (slope + slope.T) / _LEVER)
        return Point(result.energy, gradient, excess(result, frame, force, stress))

    diagonal = _joined(
        np.full((n, 3), 1.0 / _FORCE_CONSTANT),
        np.full((3, 3), _LEVER**2 / (_ELASTIC_CONSTANT * volume)),
    )
    x = await minimised(
        "the crystal",
        at,
        np.zeros(3 * n + 9),
        inverse=lambda gradient: diagonal * gradient,
        longest=_LONGEST,
        noise=_CRYSTAL_NOISE,
        steps=_STEPS,
    )
    return deformed(x)


def excess(result: EvaluationResult, frame: Frame, force: float, stress: float) -> float:
    """The largest force or stress divided by its tolerance."""
    largest = float(np.linalg.norm(result.forces, axis=1).max())
    return max(largest / force, float(np.abs(result.virial).max()) / (frame.volume * stress))


def _inverse_hessian(n: int, constants: Block | None) -> InverseHessian:
    """From force constants, or one constant for all atoms."""
    if constants is None:
        return lambda gradient: gradient / _FORCE_CONSTANT
    if constants.shape != (3 * n, 3 * n):
        raise ConfigError(
            f"force constants of {n} atoms have shape {(3 * n, 3 * n)}, not {constants.shape}: "
            "they are of another cell"
        )
    soft = compliance(constants)

    def inverse(gradient: Scalars) -> Scalars:
        return soft @ gradient

    return inverse


def _joined(positions: Vectors, strain: Matrix) -> Scalars:
    return np.concatenate([positions.ravel(), strain.ravel()])


def _split(x: Scalars, n: int) -> tuple[Vectors, Matrix]:
    """Displacements (n, 3) Å before the strain is applied, and the strain."""
    return x[: 3 * n].reshape(n, 3), x[3 * n :].reshape(3, 3) / _LEVER
