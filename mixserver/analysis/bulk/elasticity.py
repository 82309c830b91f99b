"""Elastic constants of a relaxed crystal, with relaxed and with clamped atoms; equation of state.

`matscipy.elasticity` gives the same constants (a test compares them), but evaluates five cells per
strain one after the other, each with a relaxation of its own. Here 12 + 6n concurrent evaluations
give the linear response. `ase.eos` would fit the equation of state; here only its points are
needed, since the bulk modulus comes from the elastic constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from mixserver.analysis.bulk.evaluate import EvaluateFn, gather_all, gather_pair
from mixserver.analysis.bulk.force_constants import compliance, force_constants
from mixserver.analysis.bulk.relaxation import relax_atoms
from mixserver.core.arrays import Block, Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.strain import VOIGT, strained, stress_to_voigt, unit_strain
from mixserver.core.units import GIGAPASCAL

_CUBIC: Final = 1e-2
"""Relative to the largest constant: deviations from cubic symmetry that are tolerated."""


class Cubic(NamedTuple):
    """The three elastic constants of a cubic crystal whose axes are x, y and z, in GPa."""

    c11: float
    c12: float
    c44: float


@dataclass(frozen=True, eq=False)
class ElasticConstants:
    """Second derivatives of the energy with respect to strain, in GPa."""

    matrix: Block
    """(6, 6) GPa, Voigt xx yy zz yz xz xy with engineering shears; atoms relax."""
    clamped: Block
    """(6, 6) GPa, atoms clamped: all move with the strain."""

    @property
    def bulk_modulus(self) -> float:
        """The mean (GPa) of Voigt's and Reuss's (R. Hill, Proc. Phys. Soc. A 65, 349, 1952)."""
        voigt = float(self.matrix[:3, :3].mean())
        try:
            reuss = 1.0 / float(np.linalg.inv(self.matrix)[:3, :3].sum())
        except np.linalg.LinAlgError:  # a strain without any cost
            reuss = 0.0
        return 0.5 * (voigt + reuss)

    @property
    def cubic(self) -> Cubic | None:
        """C11, C12 and C44, if the matrix is cubic to 1 %; None otherwise."""
        matrix = self.matrix
        c11, c44 = float(np.diag(matrix)[:3].mean()), float(np.diag(matrix)[3:].mean())
        c12 = float((matrix[0, 1] + matrix[0, 2] + matrix[1, 2]) / 3.0)
        cubic = np.diag([c11 - c12] * 3 + [c44] * 3)
        cubic[:3, :3] += c12
        off = float(np.abs(matrix - cubic).max())
        return Cubic(c11, c12, c44) if off <= _CUBIC * float(np.abs(matrix).max()) else None

    @property
    def stable(self) -> bool:
        """Whether every strain raises the energy."""
        return bool(np.linalg.eigvalsh(self.matrix).min() > 0.0)


async def elastic_constants(
    evaluate: EvaluateFn, crystal: Frame, *, strain: float = 2e-3, constants: Block | None = None
) -> ElasticConstants:
    r"""The elastic constants, from finite strains of both signs and the response of the atoms.

    .. math::
        C_{mn} = C^0_{mn} - \tfrac1V \sum \Lambda_{im} (\Phi^{-1})_{ij} \Lambda_{jn}, \quad
        C^0_{mn} = \partial \sigma_m / \partial \epsilon_n, \quad
        \Lambda_{in} = \partial F_i / \partial \epsilon_n

    with stress per strain :math:`C^0` (``clamped``) and forces per strain :math:`\Lambda`
    (``coupling``) at clamped atoms, and second derivatives of the energy without translations
    :math:`\Phi` (``constants``, from `force_constants` unless given). This is the limit of relaxing
    the atoms in strained cells for vanishing strains (M. Born, K. Huang, Dynamical Theory of
    Crystal Lattices, 1954), in 12 + 6n evaluations of a crystal relaxed with its cell, all at once.

    Raises:
        ConfigError: the crystal is not stable against displacements of its atoms.
    """

    async def known_constants() -> Block:
        return await force_constants(evaluate, crystal) if constants is None else constants

    frames = [
        strained(crystal, by * unit_strain(kind)) for kind in VOIGT for by in (strain, -strain)
    ]
    results, known = await gather_pair(
        gather_all(evaluate(frame) for frame in frames), known_constants()
    )
    stresses = [
        -stress_to_voigt(one.virial) / frame.volume
        for one, frame in zip(results, frames, strict=True)
    ]
    stress = np.array(stresses).reshape(6, 2, 6)
    forces = np.array([one.forces.ravel() for one in results]).reshape(6, 2, -1)
    clamped = ((stress[:, 0] - stress[:, 1]) / (2.0 * strain)).T
    coupling = ((forces[:, 0] - forces[:, 1]) / (2.0 * strain)).T
    softening = coupling.T @ compliance(known) @ coupling / crystal.volume
    return ElasticConstants(_symmetric(clamped - softening), _symmetric(clamped))


@dataclass(frozen=True, eq=False)
class EquationOfState:
    """Energies of a crystal under isotropic strain."""

    volume: Scalars
    """(m,) Å³ per atom, ascending."""
    energy: Scalars
    """(m,) eV per atom."""


async def equation_of_state(
    evaluate: EvaluateFn,
    crystal: Frame,
    *,
    by: float = 0.06,
    points: int = 13,
    constants: Block | None = None,
) -> EquationOfState:
    """Energy per atom against volume per atom of a relaxed crystal, at evenly spaced volumes.

    `by` is the relative change of the volume at both ends. With force constants, atoms relax at
    every volume.

    Raises:
        ConfigError: `by` or `points` is out of range, or the relaxation does not converge.
    """
    if not (0.0 < by < 0.5 and points >= 3):
        raise ConfigError(
            f"an equation of state needs 3 points or more and 0 < by < 0.5, not {points} points "
            f"and by = {by}"
        )

    async def at(stretch: float) -> tuple[float, float]:
        frame = crystal.topology.frame(crystal.positions * stretch, crystal.cell * stretch)
        if constants is not None:
            frame = await relax_atoms(evaluate, frame, constants)
        energy = (await evaluate(frame)).energy
        return frame.volume / len(frame), energy / len(frame)

    stretches = np.cbrt(np.linspace(1.0 - by, 1.0 + by, points))
    found = np.array(await gather_all(at(float(stretch)) for stretch in stretches))
    return EquationOfState(found[:, 0], found[:, 1])


def _symmetric(matrix: Block) -> Block:
    """The symmetric part (6, 6), converted to GPa."""
    return 0.5 * (matrix + matrix.T) / GIGAPASCAL
