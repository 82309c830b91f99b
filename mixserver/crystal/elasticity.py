"""Elastic constants of a crystal at rest, with and without relaxation of its atoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.crystal.asking import Ask, Label, both, together
from mixserver.crystal.inside import Constants, compliance, force_constants
from mixserver.frame import Frame
from mixserver.units import GIGAPASCAL

VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Order of strains and stresses: xx yy zz yz xz xy."""
_CUBIC: Final = 1e-2
"""Part of the largest constant by which a cubic crystal may be off."""


class Cubic(NamedTuple):
    """The three elastic constants of a cubic crystal whose axes are x, y and z, in GPa."""

    c11: float
    c12: float
    c44: float


@dataclass(frozen=True, eq=False)
class ElasticConstants:
    """Second derivatives of the energy with respect to strain, in GPa."""

    matrix: NDArray[np.float64]
    """(6, 6) GPa, Voigt xx yy zz yz xz xy with engineering shears; atoms relax."""
    clamped: NDArray[np.float64]
    """(6, 6) GPa, the same with all atoms moving along with the strain."""

    @property
    def bulk_modulus(self) -> float:
        """GPa, the mean of Voigt's and Reuss's (R. Hill, Proc. Phys. Soc. A 65, 349, 1952)."""
        voigt = float(self.matrix[:3, :3].mean())
        try:
            reuss = 1.0 / float(np.linalg.inv(self.matrix)[:3, :3].sum())
        except np.linalg.LinAlgError:  # something costs nothing at all
            reuss = 0.0
        return 0.5 * (voigt + reuss)

    @property
    def cubic(self) -> Cubic | None:
        """c11, c12 and c44, if the matrix is that of a cubic crystal to 1 %; None otherwise."""
        return _cubic(self.matrix)

    @property
    def clamped_cubic(self) -> Cubic | None:
        """The same of the clamped constants."""
        return _cubic(self.clamped)

    @property
    def stable(self) -> bool:
        """Whether every strain costs energy."""
        return bool(np.linalg.eigvalsh(self.matrix).min() > 0.0)


async def elastic_constants(
    ask: Ask, crystal: Frame, *, strain: float = 2e-3, constants: Constants | None = None
) -> ElasticConstants:
    r"""The elastic constants, by finite strains both ways and the response of the atoms.

    .. math::
        C_{mn} = C^0_{mn} - \tfrac1V \sum \Lambda_{im} (\Phi^{-1})_{ij} \Lambda_{jn}, \quad
        C^0_{mn} = \partial \sigma_m / \partial \epsilon_n, \quad
        \Lambda_{in} = \partial F_i / \partial \epsilon_n

    ==================  ============================================  ==============
    In the equation     Meaning                                       In the code
    ==================  ============================================  ==============
    :math:`C^0`         stress per strain, atoms moving along         ``clamped``
    :math:`\Lambda`     forces per strain, atoms moving along         ``pull``
    :math:`\Phi`        second derivatives of the energy, rigid       ``constants``
                        moves taken away
    ==================  ============================================  ==============

    This is what relaxing the atoms in strained cells comes to as strains vanish
    (M. Born, K. Huang, Dynamical Theory of Crystal Lattices, 1954), in 12 + 6n evaluations, all at
    once.

    Args:
        ask: the model.
        crystal: n atoms at rest, in a cell without stress.
        strain: of the finite strains, engineering shears too.
        constants: from `force_constants`, if they are known.

    Raises:
        ConfigError: the crystal is not stable against moves of its atoms.
    """

    async def springs() -> Constants:
        return await force_constants(ask, crystal) if constants is None else constants

    labels, known = await both(_strained(ask, crystal, strain), springs())
    stress = np.array([_stress(label, volume) for label, volume in labels]).reshape(6, 2, 6)
    forces = np.array([label.forces.ravel() for label, _ in labels]).reshape(6, 2, -1)
    clamped = ((stress[:, 0] - stress[:, 1]) / (2.0 * strain)).T
    pull = ((forces[:, 0] - forces[:, 1]) / (2.0 * strain)).T
    given = pull.T @ compliance(known) @ pull / crystal.volume
    return ElasticConstants(_symmetric(clamped - given), _symmetric(clamped))


def strained(crystal: Frame, strain: Scalars) -> Frame:
    """A crystal and its atoms under a strain (6,), xx yy zz yz xz xy with engineering shears."""
    deformed = np.eye(3) + full(strain)
    return crystal.topology.frame(crystal.positions @ deformed, crystal.cell @ deformed)


def full(strain: Scalars) -> Matrix:
    """(3, 3) of a strain (6,) with engineering shears."""
    tensor = np.zeros((3, 3))
    for value, (i, j) in zip(strain, VOIGT, strict=True):
        tensor[i, j] = tensor[j, i] = value if i == j else 0.5 * value
    return tensor


async def _strained(ask: Ask, crystal: Frame, size: float) -> list[tuple[Label, float]]:
    """Labels and volumes of all six strains, both ways."""
    frames = [strained(crystal, by * e) for e in np.eye(6) for by in (size, -size)]
    labels = await together(ask(frame) for frame in frames)
    return [(label, frame.volume) for label, frame in zip(labels, frames, strict=True)]


def _stress(label: Label, volume: float) -> Vectors:
    """(6,) eV/Å³."""
    return np.array([-label.virial[i, j] / volume for i, j in VOIGT])


def _symmetric(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """In GPa, symmetric."""
    symmetric: NDArray[np.float64] = 0.5 * (matrix + matrix.T) / GIGAPASCAL
    return symmetric


def _cubic(matrix: NDArray[np.float64]) -> Cubic | None:
    c11 = float(np.diag(matrix)[:3].mean())
    c12 = float((matrix[0, 1] + matrix[0, 2] + matrix[1, 2]) / 3.0)
    c44 = float(np.diag(matrix)[3:].mean())
    cubic = np.diag([c11 - c12] * 3 + [c44] * 3)
    cubic[:3, :3] += c12
    off = float(np.abs(matrix - cubic).max())
    return Cubic(c11, c12, c44) if off <= _CUBIC * float(np.abs(matrix).max()) else None
