"""The model the other tests believe in."""

from __future__ import annotations

import numpy as np
from cells import frame_of, silicon
from manybody import ManyBody
from tolerance import FINITE_DIFFERENCE

from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.frame import Frame
from mixserver.wire.worker import Evaluate

STEP = 1e-5


def _ask(frame: Frame, positions: Vectors, weight: Scalars) -> Evaluate:
    return Evaluate(
        job=1,
        stream=0,
        positions=positions,
        numbers=frame.topology.numbers,
        cell=frame.cell,
        pbc=frame.topology.pbc,
        weight=weight,
    )


def test_forces_and_virial_are_derivatives_of_the_weighted_energy() -> None:
    frame, model = silicon(2), ManyBody(cutoff=4.0)
    weight = np.random.default_rng(1).uniform(size=len(frame))
    answer = model(_ask(frame, frame.positions, weight))
    for atom, axis in [(0, 0), (17, 1), (60, 2)]:
        energies = []
        for step in (STEP, -STEP):
            moved = frame.positions.copy()
            moved[atom, axis] += step
            energies.append(model(_ask(frame, moved, weight)).energy)
        difference = -(energies[0] - energies[1]) / (2.0 * STEP)
        assert abs(answer.forces[atom, axis] - difference) < FINITE_DIFFERENCE
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = 0.5
    energies = []
    for step in (STEP, -STEP):
        deform = np.eye(3) + step * strain
        strained = frame_of(frame.positions @ deform, frame.cell @ deform)
        energies.append(model(_ask(strained, strained.positions, weight)).energy)
    difference = -(energies[0] - energies[1]) / (2.0 * STEP)
    assert abs(answer.virial[0, 1] - difference) < 10 * FINITE_DIFFERENCE


def test_a_site_energy_sees_twice_the_cutoff_and_no_further() -> None:
    frame, model = silicon(3), ManyBody(cutoff=3.0)
    before = model(_ask(frame, frame.positions, np.ones(len(frame))))
    assert before.energies is not None
    distance = np.linalg.norm(frame.positions - frame.positions[100], axis=1)
    for low, high, seen in ((3.4, 4.1, True), (6.2, 7.5, False)):
        atom = np.flatnonzero((distance > low) & (distance < high))[0]
        moved = frame.positions.copy()
        moved[atom] += 0.05
        after = model(_ask(frame, moved, np.ones(len(frame))))
        assert after.energies is not None
        assert (after.energies[100] != before.energies[100]) == seen
