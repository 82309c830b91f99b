"""Ghost forces of two models whose site energies are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.arrays import Block
from mixserver.core.frame import Topology
from mixserver.cotrain.judging import ghost_forces
from mixserver.distill.data.energy_partition import one_hot
from mixserver.distill.data.labels import LabelledStructure, Structure

CRYSTAL = Topology(np.array([29], np.int32)).frame(
    np.zeros((1, 3)), 1.8 * (np.ones((3, 3)) - np.eye(3))
)
REACH = 3.0


def _labels(structure: Structure, share: float) -> LabelledStructure:
    """A site energy of springs to neighbours, of which a site gets `share` and the other the rest.

    The total energy does not depend on the share, only its division among the atoms.
    """
    n = len(structure)
    forces: Block = np.zeros((structure.groups, n, 3))
    inverse = np.linalg.inv(structure.cell)
    fractional = (structure.positions - structure.positions[0]) @ inverse
    apart = (fractional - np.round(fractional)) @ structure.cell
    length = np.linalg.norm(apart, axis=1)
    for other in np.flatnonzero((length > 0.0) & (length < REACH)):
        # bonds upwards in z count with `share`, bonds downwards with the rest
        part = share if apart[other, 2] > 0.0 or not apart[other, 2] else 1.0 - share
        pull = part * apart[other] / length[other]
        forces[0, 0] += pull
        forces[0, other] -= pull
    zero = np.zeros(structure.groups)
    return LabelledStructure(structure, zero, forces, np.zeros((structure.groups, 3, 3)))


@settings(max_examples=10, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.1, 1.0))
def test_ghost_forces_are_of_the_difference(share: float, other: float) -> None:
    """None between equal models; between others as much as the models differ."""
    structure = one_hot(CRYSTAL, REACH)
    large, small = _labels(structure, share), _labels(structure, other)
    none = ghost_forces(large, large, CRYSTAL, REACH)
    assert max(one.largest for one in none) < 1e-12
    once = ghost_forces(large, small, CRYSTAL, REACH)
    back = ghost_forces(small, large, CRYSTAL, REACH)
    whole = ghost_forces(_labels(structure, 1.0), _labels(structure, 0.0), CRYSTAL, REACH)
    for one, two, full in zip(once, back, whole, strict=True):
        assert one.largest == pytest.approx(two.largest, abs=1e-12)
        assert one.largest == pytest.approx(abs(share - other) * full.largest, abs=1e-9)


def test_wider_blends_have_smaller_ghost_forces() -> None:
    structure = one_hot(CRYSTAL, REACH)
    found = ghost_forces(_labels(structure, 1.0), _labels(structure, 0.2), CRYSTAL, REACH)
    sizes = [one.largest for one in sorted(found, key=lambda one: one.blend)]
    assert sizes[0] > sizes[1] > sizes[2] > 0.0
