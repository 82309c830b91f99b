"""Ghost forces that change with strain: against whole weighted crystals, strained for real."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tolerance import EXACT

from clients.engines.toy import ToyEngine
from mixserver.arrays import Matrix, Scalars, Vectors
from mixserver.distill.design import WIDTHS, Design, with_partition
from mixserver.distill.hard import VOIGT, as_structure, names, strain, strained
from mixserver.distill.labelled import Labelled, Structure, rows_of
from mixserver.distill.partition import balls, one_hot
from mixserver.distill.partition_strain import one_hot_names, with_strains
from mixserver.frame import Frame, Topology
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


def _labelled(s: Structure) -> Labelled:
    forces = np.array(
        [_weighted(s.positions, s.cell, (s.group == g).astype(float)) for g in range(s.groups)]
    )
    return Labelled(s, np.zeros(s.groups), forces, np.zeros((s.groups, 3, 3)))


def _cells() -> dict[str, Frame]:
    """Strained cells in which the second atom moves inside, as it does where atoms relax."""
    found = {}
    for name, kind, sign in names():
        frame = strained(CRYSTAL, kind, sign * SIZE)
        positions = frame.positions.copy()
        positions[1] += sign * np.array([0.003, -0.002, 0.001])
        found[name] = frame.topology.frame(positions, frame.cell)
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, Labelled]:
    cells = _cells()
    found = {name: _labelled(as_structure(name, frame)) for name, frame in cells.items()}
    for name, (cell, _, _) in one_hot_names().items():
        found[name] = _labelled(dataclasses.replace(one_hot(cells[cell], CUTOFF), name=name))
    found["partition"] = _labelled(one_hot(CRYSTAL, CUTOFF))
    return found


def _design(known: dict[str, Labelled], count: int) -> tuple[Design, float, int]:
    """A design with strains, and what its ghost rows were before: two columns, one of them true."""

    def rows(name: str) -> np.ndarray:  # type: ignore[type-arg]
        theirs = rows_of(known[name])
        return np.stack([theirs, np.roll(theirs, 1, axis=1)], axis=2)

    design = Design(2)
    perfect = known["partition"]
    with_partition(design, perfect, rows("partition"), CRYSTAL, reach=CUTOFF, count=1, seed=3)
    assert design.ghosts is not None
    before, height = design.ghosts.residual(np.zeros(2)), design.ghosts.rows
    with_strains(
        design,
        CRYSTAL,
        known,
        rows,
        size=SIZE,
        by=BY,
        reach=CUTOFF,
        count=count,
        seed=3,
    )
    return design, before, height


def test_they_are_those_of_whole_crystals_strained_both_ways(known: dict[str, Labelled]) -> None:
    count = 3
    design, before, height = _design(known, count)
    assert design.ghosts is not None
    shifts = np.stack(np.meshgrid(*[np.arange(REPEAT) - REPEAT // 2] * 3, indexing="ij"), -1)
    cells, expected = _cells(), 0.0
    regions = balls(CRYSTAL, count, np.random.default_rng([3, 4]), widths=WIDTHS)
    for number, region in enumerate(regions):
        for at in range(2):
            kind = VOIGT[(2 * number + at) % 6]
            forces = []
            for sign in (1, -1):
                frame = cells[f"hard-{kind}{sign:+d}"]
                positions = frame.positions + (shifts.reshape(-1, 3) @ frame.cell)[:, None]
                flat = positions.reshape(-1, 3)
                weight = region(flat @ np.linalg.inv(strain(kind, sign * SIZE)))
                forces.append(_weighted(flat, REPEAT * frame.cell, weight))
            change = 0.5 * BY / SIZE * (forces[0] - forces[1])
            expected += float(np.sum(change**2))
    assert design.ghosts.residual(np.zeros(2)) - before == pytest.approx(expected, rel=1e-9)
    assert expected > 1e-4
    assert design.ghosts.rows > height


def test_the_true_coefficients_leave_nothing(known: dict[str, Labelled]) -> None:
    design, _, _ = _design(known, 6)
    assert design.ghosts is not None
    assert design.ghosts.residual(np.array([1.0, 0.0])) < EXACT
    assert design.ghosts.residual(np.array([0.9, 0.0])) > 1e-6


def test_without_ghost_rows_there_is_nothing_to_add_to(known: dict[str, Labelled]) -> None:
    with pytest.raises(ValueError, match="after the perfect crystal"):
        with_strains(
            Design(2), CRYSTAL, known, rows_of, size=SIZE, by=BY, reach=4.0, count=1, seed=1
        )  # fmt: skip
