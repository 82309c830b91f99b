"""Ghost forces that change with strain: against whole weighted crystals, strained for real."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.frame import Frame, Topology
from mixserver.core.strain import VOIGT, unit_strain
from mixserver.distill.data.energy_partition import one_hot, random_regions
from mixserver.distill.data.labels import LabelledStructure, Structure, label_rows
from mixserver.distill.data.strain_set import names, strained_cell
from mixserver.distill.data.strained_partition import one_hot_names, strained_ghost_rows
from mixserver.distill.fitting.design_matrix import GhostRows, ghost_rows
from mixserver.wire.worker import Evaluate

CUTOFF = 4.0
SIZE, BY = 0.005, 0.02
TOY = ToyEngine(epsilon=0.1, sigma=2.2, cutoff=CUTOFF)
CELL = np.array([[0.0, 2.1, 2.1], [2.1, 0.0, 2.1], [2.1, 2.1, 0.0]])
CRYSTAL = Topology(np.full(2, 14, np.int32)).frame(np.array([[0.0, 0, 0], [1.1, 1.0, 1.05]]), CELL)
REPEAT = 11


def _weighted(positions: Vectors, cell: Matrix, weight: Scalars) -> Vectors:
    return TOY.evaluate(
        Evaluate(
            job=1,
            stream=1,
            positions=np.ascontiguousarray(positions),
            numbers=np.full(len(positions), 14, np.int32),
            cell=np.ascontiguousarray(cell),
            pbc=(True, True, True),
            weight=weight,
        )
    ).forces


def _labelled(s: Structure) -> LabelledStructure:
    forces = np.array(
        [_weighted(s.positions, s.cell, (s.group == g).astype(float)) for g in range(s.groups)]
    )
    return LabelledStructure(s, np.zeros(s.groups), forces, np.zeros((s.groups, 3, 3)))


def _cells() -> dict[str, Frame]:
    """Strained cells in which the second atom moves inside, as it does where atoms relax."""
    found = {}
    for name, kind, sign in names():
        frame = strained_cell(CRYSTAL, kind, sign * SIZE)
        positions = frame.positions.copy()
        positions[1] += sign * np.array([0.003, -0.002, 0.001])
        found[name] = frame.topology.frame(positions, frame.cell)
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, LabelledStructure]:
    cells = _cells()
    found = {name: _labelled(Structure.of(frame, name, "hard")) for name, frame in cells.items()}
    for name, (cell, _, _) in one_hot_names().items():
        found[name] = _labelled(dataclasses.replace(one_hot(cells[cell], CUTOFF), name=name))
    found["partition"] = _labelled(one_hot(CRYSTAL, CUTOFF))
    return found


def _ghosts(known: dict[str, LabelledStructure], count: int) -> tuple[GhostRows, GhostRows]:
    """Ghost rows with strains and without: two columns, one of them true."""

    def rows(name: str) -> np.ndarray:  # type: ignore[type-arg]
        theirs = label_rows(known[name])
        return np.stack([theirs, np.roll(theirs, 1, axis=1)], axis=2)

    perfect, perfect_rows = known["partition"], rows("partition")
    strained = strained_ghost_rows(
        CRYSTAL, known.__getitem__, rows, size=SIZE, by=BY, reach=CUTOFF, count=count, seed=3
    )
    return (
        ghost_rows(
            perfect, perfect_rows, CRYSTAL, reach=CUTOFF, count=1, seed=3, strained=strained
        ),
        ghost_rows(perfect, perfect_rows, CRYSTAL, reach=CUTOFF, count=1, seed=3),
    )


def test_they_are_those_of_whole_crystals_strained_both_ways(
    known: dict[str, LabelledStructure],
) -> None:
    count = 3
    ghosts, perfect = _ghosts(known, count)
    shifts = np.stack(np.meshgrid(*[np.arange(REPEAT) - REPEAT // 2] * 3, indexing="ij"), -1)
    cells, expected = _cells(), 0.0
    regions = random_regions(CRYSTAL, count, np.random.default_rng([3, 4]))
    for number, region in enumerate(regions):
        for at in range(2):
            kind = VOIGT[(2 * number + at) % 6]
            forces = []
            for sign in (1, -1):
                frame = cells[f"hard-{kind}{sign:+d}"]
                positions = frame.positions + (shifts.reshape(-1, 3) @ frame.cell)[:, None]
                flat = positions.reshape(-1, 3)
                weight = region(flat @ np.linalg.inv(np.eye(3) + sign * SIZE * unit_strain(kind)))
                forces.append(_weighted(flat, REPEAT * frame.cell, weight))
            change = 0.5 * BY / SIZE * (forces[0] - forces[1])
            expected += float(np.sum(change**2))
    change = ghosts.fitted.residual(np.zeros(2)) - perfect.fitted.residual(np.zeros(2))
    assert change == pytest.approx(expected, rel=1e-9)
    assert expected > 1e-4
    assert ghosts.fitted.rows > perfect.fitted.rows


def test_the_true_coefficients_leave_nothing(known: dict[str, LabelledStructure]) -> None:
    ghosts, _ = _ghosts(known, 6)
    assert ghosts.fitted.residual(np.array([1.0, 0.0])) < EXACT
    assert ghosts.fitted.residual(np.array([0.9, 0.0])) > 1e-6
