r"""Strain and stress: strained frames and Voigt notation, in one order everywhere.

A strain :math:`\epsilon` moves a cell and its atoms by :math:`h' = h (1 + \epsilon)`,
:math:`r' = r (1 + \epsilon)` with vectors as rows. The Voigt order is xx yy zz yz xz xy; strains in
Voigt notation have engineering shears (:math:`2 \epsilon_{yz}`), stresses and virials do not.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mixserver.core.arrays import Block, Matrix, Scalars
from mixserver.core.frame import Frame

VOIGT: Final = ("xx", "yy", "zz", "yz", "xz", "xy")
"""Names of the six components."""
ROWS: Final = (0, 1, 2, 1, 0, 0)
"""First index of each component in a (3, 3) matrix: ``matrix[..., ROWS, COLUMNS]``."""
COLUMNS: Final = (0, 1, 2, 2, 2, 1)
"""Second index of each component."""
_ENGINEERING: Final = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


def stress_to_voigt(stress: Block) -> Block:
    """(..., 6) components of symmetric matrices (..., 3, 3): stresses or virials."""
    components: Block = stress[..., ROWS, COLUMNS]
    return components


def stress_from_voigt(components: Block) -> Block:
    """(..., 3, 3) symmetric matrices from components (..., 6): stresses or virials."""
    stress = np.empty((*components.shape[:-1], 3, 3))
    stress[..., ROWS, COLUMNS] = components
    stress[..., COLUMNS, ROWS] = components
    return stress


def strain_from_voigt(components: Block) -> Block:
    """(..., 3, 3) symmetric strains from components (..., 6) with engineering shears."""
    return stress_from_voigt(components / _ENGINEERING)


def unit_strain(kind: str) -> Matrix:
    """(3, 3) strain of size 1 of one kind of `VOIGT`; a shear has 1/2 on both sides."""
    components: Scalars = np.zeros(6)
    components[VOIGT.index(kind)] = 1.0
    return strain_from_voigt(components)


def strained(frame: Frame, strain: Matrix) -> Frame:
    """The frame under a strain (3, 3): the cell and all atoms with it."""
    deformation = np.eye(3) + strain
    return frame.topology.frame(frame.positions @ deformation, frame.cell @ deformation)
