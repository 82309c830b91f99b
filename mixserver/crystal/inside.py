"""What atoms do inside a cell that is held: their force constants, and where they come to rest."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Scalars, Vectors
from mixserver.crystal.asking import Ask, together
from mixserver.crystal.minimise import Inverse, Slope, minimised
from mixserver.errors import ConfigError
from mixserver.frame import Frame

STEP: Final = 0.01
"""Å, of finite displacements: errors of the third order cancel, and noise of single precision is
small against it."""
_SOFT: Final = 1e-3
"""eV/Å², a force constant below which a crystal is not held together."""
_SPRING: Final = 10.0
"""eV/Å², what an atom is bound by, if nothing better is known."""
_NOISE: Final = 5e-5
"""eV/Å, what forces in single precision may not come below."""
_LONGEST: Final = 0.1
"""Å, the longest move."""

Constants: TypeAlias = NDArray[np.float64]
"""(3n, 3n) eV/Å², second derivatives of the energy; atoms move along with their images."""


async def force_constants(ask: Ask, crystal: Frame, *, step: float = STEP) -> Constants:
    """Second derivatives of the energy with respect to the atoms of the cell.

    Central differences of the forces, 6n evaluations at once; symmetric, and moving all atoms alike
    costs nothing (the acoustic sum rule).

    Args:
        ask: the model.
        crystal: n atoms in their cell; images move along.
        step: Å.

    Returns:
        (3n, 3n) eV/Å².
    """
    rows = await displaced(ask, crystal, range(len(crystal)), step)
    constants = -rows.reshape(3 * len(crystal), -1)
    kept = _not_rigid(len(crystal))
    projected: Constants = kept @ (0.5 * (constants + constants.T)) @ kept
    return projected


async def displaced(
    ask: Ask, frame: Frame, atoms: range, step: float = STEP
) -> NDArray[np.float64]:
    """How forces change when some atoms are displaced: (atoms, 3, N, 3) eV/Å²."""

    async def pull(atom: int, axis: int, by: float) -> Vectors:
        positions = frame.positions.copy()
        positions[atom, axis] += by
        return (await ask(frame.topology.frame(positions, frame.cell))).forces

    moves = [(atom, axis, by) for atom in atoms for axis in range(3) for by in (step, -step)]
    forces = np.array(await together(pull(*move) for move in moves))
    pairs = forces.reshape(len(atoms), 3, 2, len(frame), 3)
    change: NDArray[np.float64] = (pairs[:, :, 0] - pairs[:, :, 1]) / (2.0 * step)
    return change


def compliance(constants: Constants) -> Constants:
    """How atoms give way to forces: (3n, 3n) Å²/eV, the inverse without the rigid moves.

    Raises:
        ConfigError: the crystal is not stable against moves of its atoms.
    """
    stiffness, modes = np.linalg.eigh(constants)
    order = np.argsort(np.abs(modes.T @ _rigid(len(constants) // 3)).max(axis=1))
    inner = order[:-3]  # the three others move all atoms alike
    if len(inner) and stiffness[inner].min() < _SOFT:
        raise ConfigError(
            "the crystal is not stable in this model: moving its atoms against each other has a "
            f"force constant of {stiffness[inner].min():.3g} eV/Å². Is it the structure that the "
            "model holds together, and was it relaxed?"
        )
    softness: Constants = (modes[:, inner] / stiffness[inner]) @ modes[:, inner].T
    return softness


async def relaxed_inside(
    ask: Ask,
    frame: Frame,
    constants: Constants | None = None,
    *,
    force: float = 1e-6,
    steps: int = 300,
) -> Frame:
    """The frame with its atoms at rest, the cell held.

    With the force constants of the crystal (of any cell near this one) it takes a few evaluations,
    without them tens.

    Args:
        ask: the model.
        frame: where to begin.
        constants: (3n, 3n) eV/Å² from `force_constants`.
        force: eV/Å, below which the largest force counts as none. A model in single precision may
            not get there; then it ends where forces no longer fall, if they are below 5e-5.
        steps: evaluations after which it gives up.

    Raises:
        ConfigError: it does not come to rest, or the force constants are not those of something
            stable, or of another number of atoms.
    """
    n = len(frame)
    inverse: Inverse = _springs
    if constants is not None:
        if constants.shape != (3 * n, 3 * n):
            raise ConfigError(
                f"force constants of {n} atoms have shape {(3 * n, 3 * n)}, not {constants.shape}: "
                "they are of another cell"
            )
        softness = compliance(constants)

        def inverse(gradient: Scalars) -> Scalars:
            given: Scalars = softness @ gradient
            return given

    def moved(x: Scalars) -> Frame:
        return frame.topology.frame(frame.positions + x.reshape(n, 3), frame.cell)

    async def at(x: Scalars) -> Slope:
        label = await ask(moved(x))
        forces = label.forces - label.forces.mean(axis=0)
        largest = float(np.linalg.norm(forces, axis=1).max())
        return Slope(label.energy, -forces.ravel(), largest / force)

    x = await minimised(
        f"the structure of {n} atoms",
        at,
        np.zeros(3 * n),
        inverse=inverse,
        longest=_LONGEST,
        noise=_NOISE / force,
        steps=steps,
    )
    return moved(x)


def _springs(gradient: Scalars) -> Scalars:
    moves: Scalars = gradient / _SPRING
    return moves


def _rigid(n: int) -> NDArray[np.float64]:
    """(3n, 3) the moves of all atoms alike, normalised."""
    moves: NDArray[np.float64] = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    return moves


def _not_rigid(n: int) -> NDArray[np.float64]:
    """(3n, 3n) takes rigid moves away."""
    rigid = _rigid(n)
    kept: NDArray[np.float64] = np.eye(3 * n) - rigid @ rigid.T
    return kept
