"""Force constants of a crystal by central differences, and the compliance of its atoms."""

from __future__ import annotations

from typing import Final

import numpy as np

from mixserver.analysis.bulk.evaluate import EvaluateFn, gather_all
from mixserver.core.arrays import Block, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame

STEP: Final = 0.01
"""Å of the finite displacements: errors of third order cancel, and the noise of single precision is
small in comparison."""
_SOFT: Final = 1e-3
"""eV/Å². A crystal with a smaller eigenvalue of its force constants is not stable."""


async def force_constants(evaluate: EvaluateFn, crystal: Frame, *, step: float = STEP) -> Block:
    """Second derivatives (3n, 3n) eV/Å² of the energy with respect to the n atoms of the cell.

    An atom's images move with it. Central differences (`step` in Å) of the forces from 6n
    concurrent evaluations. The result is symmetric and obeys the acoustic sum rule.
    """
    derivatives = await force_derivatives(evaluate, crystal, range(len(crystal)), step)
    constants = -derivatives.reshape(3 * len(crystal), -1)
    moves = _translations(len(crystal))
    internal = np.eye(len(moves)) - moves @ moves.T
    return internal @ (0.5 * (constants + constants.T)) @ internal


async def force_derivatives(
    evaluate: EvaluateFn, frame: Frame, atoms: range, step: float = STEP
) -> Block:
    """Changes of all forces, (atoms, 3, N, 3) eV/Å², when single atoms are displaced."""

    async def forces(atom: int, axis: int, displacement: float) -> Vectors:
        positions = frame.positions.copy()
        positions[atom, axis] += displacement
        return (await evaluate(frame.topology.frame(positions, frame.cell))).forces

    moves = [(atom, axis, size) for atom in atoms for axis in range(3) for size in (step, -step)]
    found = np.array(await gather_all(forces(*move) for move in moves))
    pairs = found.reshape(len(atoms), 3, 2, len(frame), 3)
    derivatives: Block = (pairs[:, :, 0] - pairs[:, :, 1]) / (2.0 * step)
    return derivatives


def compliance(constants: Block) -> Block:
    """The inverse (3n, 3n) Å²/eV of force constants on all moves but translations.

    Raises:
        ConfigError: the crystal is not stable against displacements of its atoms.
    """
    stiffness, modes = np.linalg.eigh(constants)
    order = np.argsort(np.abs(modes.T @ _translations(len(constants) // 3)).max(axis=1))
    internal = order[:-3]  # the three others are translations
    if len(internal) and stiffness[internal].min() < _SOFT:
        raise ConfigError(
            "the crystal is not stable in this model: displacing its atoms against each other has "
            f"a force constant of {stiffness[internal].min():.3g} eV/Å². Is it a stable structure "
            "of the model, and was it relaxed?"
        )
    soft: Block = (modes[:, internal] / stiffness[internal]) @ modes[:, internal].T
    return soft


def _translations(n: int) -> Block:
    """The normalised translations (3n, 3) of all atoms."""
    moves: Block = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    return moves
