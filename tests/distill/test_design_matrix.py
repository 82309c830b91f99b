"""Rows of a fit: what is told of coefficients is what the labels and rows say, kind by kind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT

from mixserver.core.arrays import Block, Scalars
from mixserver.core.frame import Frame, Topology
from mixserver.distill.data.energy_partition import one_hot
from mixserver.distill.data.labels import LabelledStructure, Structure
from mixserver.distill.data.splits import Split, split_structures
from mixserver.distill.data.strain_set import PERFECT, constraints, strained_cell
from mixserver.distill.data.strain_set import names as hard_names
from mixserver.distill.fitting.design_matrix import (
    Design,
    ghost_rows,
    training_rows,
)
from mixserver.distill.fitting.inputs import FitInputs
from mixserver.distill.fitting.pair_basis import PairBasis, pair_rows
from mixserver.distill.results import REPORTED_BLENDS
from mixserver.wire.worker import Evaluate

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
P = 4
TRUTH = np.array([0.5, -1.0, 2.0, 0.25])
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BASIS = PairBasis(functions=6, inner=1.6, cutoff=4.2, elements=("Si",))
TOY = ToyEngine(epsilon=0.1, sigma=2.2, cutoff=4.2)


def structure(name: str, kind: str, atoms: int, groups: int, kelvin: float | None) -> Structure:
    rng = np.random.default_rng(atoms)
    return Structure(
        name,
        kind,
        np.full(atoms, 14, np.int32),
        rng.uniform(0.0, 6.0, (atoms, 3)),
        6.0 * np.eye(3),
        (np.arange(atoms) % groups).astype(np.int32),
        kelvin,
    )


def labelled_by(s: Structure, values: Block) -> LabelledStructure:
    """A structure with (K, 1 + 3N + 6) answers."""
    k, n = s.groups, len(s)
    virial = np.zeros((k, 3, 3))
    i, j = VOIGT
    virial[:, i, j] = values[:, -6:]
    virial[:, j, i] = values[:, -6:]
    return LabelledStructure(s, values[:, 0], values[:, 1:-6].reshape(k, n, 3), virial)


def made_up(
    seed: int, shapes: Iterable[tuple[str, int, int]], truth: Scalars, noise: float
) -> tuple[list[LabelledStructure], dict[str, Block]]:
    """Structures of (kind, atoms, groups) with any rows, and labels that the truth explains."""
    rng = np.random.default_rng(seed)
    labels, rows = [], {}
    for at, (kind, atoms, groups) in enumerate(shapes):
        s = structure(f"{kind}-{at}", kind, atoms, groups, None if kind == "given" else 300.0)
        block = rng.normal(size=(groups, 1 + 3 * atoms + 6, len(truth)))
        values = block @ truth + rng.normal(0.0, noise, block.shape[:2])
        rows[s.name] = block
        labels.append(labelled_by(s, values))
    return labels, rows


shapes = st.lists(
    st.tuples(st.sampled_from(["hot", "strained", "given"]), st.integers(2, 5), st.integers(1, 2)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40)
@given(seed=st.integers(0, 9999), wanted=shapes)
def test_errors_are_those_of_rows_times_coefficients(
    seed: int, wanted: list[tuple[str, int, int]]
) -> None:
    """Per atom where it says so, over the structures of a split and a kind, and no others."""
    labels, rows = made_up(seed, wanted, TRUTH, 0.3)
    deal = {one.structure.name: SPLITS[at % 3] for at, one in enumerate(labels)}
    design = Design(P, training_rows(labels, rows.__getitem__, P, deal))
    guess = np.random.default_rng(seed + 1).normal(size=P)
    expected: dict[tuple[str, str, str], list[Block]] = {}
    for one in labels:
        s = one.structure
        of = s.kind if s.temperature is None else f"{s.kind} 300 K"
        told = rows[s.name] @ guess
        energy = (told[:, 0].sum() - one.energy.sum()) / len(s)
        forces = told[:, 1:-6].sum(axis=0) - one.forces.sum(axis=0).ravel()
        virial = (told[:, -6:].sum(axis=0) - one.virial.sum(axis=0)[VOIGT]) / len(s)
        parts = {"energy": np.array([energy]), "forces": forces, "virial": virial}
        if s.groups > 1:
            apart = told[:, 1:-6] - one.forces.reshape(s.groups, -1)
            parts["partition"] = apart.ravel()
        for quantity, part in parts.items():
            for kind in (of, ""):
                expected.setdefault((deal[s.name], quantity, kind), []).append(part)
    for split in SPLITS:
        for quantity in ("energy", "forces", "virial", "partition"):
            for kind in ("", "hot 300 K", "strained 300 K", "given"):
                got = design.error(guess, quantity, split, kind)  # type: ignore[arg-type]
                parts_of = expected.get((split, quantity, kind))
                if parts_of is None:
                    assert math.isnan(got)
                else:
                    rms = np.sqrt(np.mean(np.concatenate(parts_of) ** 2))
                    assert got == pytest.approx(rms, rel=1e-8)
        kinds = {key[2] for key in expected if key[0] == split} - {""}
        assert set(design.kinds(split)) == kinds


@settings(max_examples=20)
@given(seed=st.integers(0, 9999), wanted=shapes)
def test_what_made_the_labels_has_no_error(seed: int, wanted: list[tuple[str, int, int]]) -> None:
    labels, rows = made_up(seed, wanted, TRUTH, 0.0)
    splits: dict[str, Split] = {s.structure.name: "train" for s in labels}
    design = Design(P, training_rows(labels, rows.__getitem__, P, splits))
    assert design.error(TRUTH, "forces", "train") < EXACT
    assert design.error(TRUTH, "energy", "train") < EXACT
    assert design.error(TRUTH, "virial", "train") < EXACT


def crystal() -> Frame:
    """A triclinic cell of two atoms, at no place of symmetry."""
    cell = np.array([[3.1, 0, 0], [0.4, 3.4, 0], [-0.3, 0.9, 4.4]])
    sites = np.array([[0, 0, 0], [0.45, 0.52, 0.55]])
    return Topology(np.full(2, 14, np.int32)).frame(sites @ cell, cell)


def asked(s: Structure) -> LabelledStructure:
    """The toy's answers, group by group."""
    answers = [
        TOY.evaluate(
            Evaluate(
                job=1,
                stream=1,
                positions=s.positions,
                numbers=s.numbers,
                cell=s.cell,
                pbc=(True, True, True),
                weight=(s.group == g).astype(np.float64),
            )
        )
        for g in range(s.groups)
    ]
    return LabelledStructure(
        s,
        np.array([answer.energy for answer in answers]),
        np.array([answer.forces for answer in answers]),
        np.array([answer.virial for answer in answers]),
    )


def test_ghosts_are_the_difference_of_two_models_in_a_weighted_crystal() -> None:
    """Of pair functions and the toy, for the regions that are told and those that are fitted."""
    frame, reach = crystal(), 4.2
    s = one_hot(frame, reach)
    ghosts = ghost_rows(asked(s), pair_rows(s, BASIS), frame, reach=reach, count=3, seed=1)
    assert [one.region.blend for one in ghosts.reported] == list(REPORTED_BLENDS)
    coefficients = np.random.default_rng(0).normal(size=BASIS.columns) * 0.1
    region = ghosts.reported[1]
    repeat = 11
    shifts = np.stack(np.meshgrid(*[np.arange(repeat) - repeat // 2] * 3, indexing="ij"), -1)
    positions = (frame.positions + (shifts.reshape(-1, 3) @ frame.cell)[:, None]).reshape(-1, 3)
    weight = region.region(positions)
    whole = TOY.evaluate(
        Evaluate(
            job=1,
            stream=1,
            positions=positions,
            numbers=np.full(len(positions), 14, np.int32),
            cell=repeat * frame.cell,
            pbc=(True, True, True),
            weight=weight,
        )
    ).forces
    edges = repeat * frame.cell
    ours = np.zeros((len(positions), 3))
    for site in np.flatnonzero(weight):
        apart = positions - positions[site]
        apart -= np.round(apart @ np.linalg.inv(edges)) @ edges
        r = np.linalg.norm(apart, axis=1)
        near = np.flatnonzero((r > 0.0) & (r < BASIS.cutoff))
        _, force = BASIS.curve(coefficients, r[near])
        pull = 0.5 * weight[site] * force[:, None] * apart[near] / r[near, None]
        ours[near] += pull
        ours[site] -= pull.sum(axis=0)
    largest = np.linalg.norm(whole - ours, axis=1).max()
    told = region.measured(coefficients, frame, reach)
    assert told.largest == pytest.approx(largest, abs=EXACT)
    assert largest > 1e-2
    assert ghosts.fitted.rows > 100


def test_fitted_regions_depend_on_the_seed_alone() -> None:
    frame, reach = crystal(), 4.2
    s = one_hot(frame, reach)
    labels, rows = asked(s), pair_rows(s, BASIS)
    found = []
    for seed in (1, 1, 2):
        ghosts = ghost_rows(labels, rows, frame, reach=reach, count=2, seed=seed)
        found.append(ghosts.fitted.residual(np.zeros(BASIS.columns)))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_strained_cells_become_constraints() -> None:
    frame = crystal()
    structures = [Structure.of(frame, PERFECT, "hard")]
    structures += [
        Structure.of(strained_cell(frame, kind, sign * 0.002), n, "hard")
        for n, kind, sign in hard_names()
    ]
    truth = np.random.default_rng(0).normal(size=BASIS.columns)
    rows = {s.name: pair_rows(s, BASIS) for s in structures}
    summed = {name: block.sum(axis=0) for name, block in rows.items()}
    targets = {name: block @ truth for name, block in summed.items()}
    found = constraints(summed, targets, size=0.002, volume=frame.volume)
    assert {one.label for one in found} >= {"energy", "stress", "elastic xy"}
    for one in found:
        np.testing.assert_allclose(one.rows @ truth, one.target, atol=1e-6)
    found = constraints(
        summed, targets, size=0.002, volume=frame.volume, energy=False, lattice=False
    )
    assert {one.label.split()[0] for one in found} == {"elastic", "internal"}


def test_pair_columns_come_after_the_descriptors_and_are_made_once() -> None:
    s = structure("hot-0", "hot", 5, 2, 300.0)
    labels = {s.name: labelled_by(s, np.zeros((2, 22)))}
    bare = np.random.default_rng(0).normal(size=(2, 22, 3))
    known: dict[str, Block] = {}
    data = SimpleNamespace(labels=labels.__getitem__)
    inputs = FitInputs(None, data, lambda _: bare, None, BASIS, known)
    rows = inputs.all_rows(s.name)
    assert rows.shape == (2, 22, 3 + BASIS.columns)
    np.testing.assert_array_equal(rows[:, :, :3], bare)
    np.testing.assert_array_equal(rows[:, :, 3:], pair_rows(s, BASIS))
    known[s.name] = np.ones_like(known[s.name])
    np.testing.assert_array_equal(inputs.all_rows(s.name)[:, :, 3:], 1.0)
    none = PairBasis(functions=0, inner=1.0, cutoff=4.0, elements=("Si",))
    assert FitInputs(None, data, lambda _: bare, None, none, {}).all_rows(s.name) is bare


counts = st.dictionaries(
    st.sampled_from(["300K", "600K", "strained", "vacancy", "given"]),
    st.integers(1, 40),
    min_size=1,
)


@settings(max_examples=60)
@given(wanted=counts, validation=st.floats(0.02, 1 / 3), seed=st.integers(0, 99))
def test_every_structure_has_one_use_whatever_others_there_are(
    wanted: dict[str, int], validation: float, seed: int
) -> None:
    """The same deal each time; kinds do not disturb each other; shares are as asked for."""
    names = [f"{kind}-{at:03d}" for kind, count in wanted.items() for at in range(count)]
    assigned = split_structures(names, validation)
    assert list(assigned) == names
    assert set(assigned.values()) <= set(SPLITS)
    assert split_structures(names, validation) == assigned
    kinds = [name.split("-")[0] for name in names]
    mixed = np.random.default_rng(seed).permutation(kinds)
    turn: Counter[str] = Counter()
    shuffled = []
    for kind in mixed:
        shuffled.append(f"{kind}-{turn[kind]:03d}")
        turn[kind] += 1
    assert split_structures(shuffled, validation) == assigned
    every = round(1.0 / validation)
    for kind, count in wanted.items():
        uses = Counter(use for name, use in assigned.items() if name.startswith(kind))
        for use in ("validation", "test"):
            assert abs(uses[use] - count / every) < 1.0
        assert uses["train"] >= (count - 2) / 3
        if count < every:
            assert uses["train"] >= count / 2 - 1.0
    if len(names) > 2:
        assert set(assigned.values()) >= {"train", "validation"}


@pytest.mark.parametrize("validation", [0.05, 0.15, 1 / 3])
def test_what_there_is_little_of_is_fitted(validation: float) -> None:
    """One frame of one's own would otherwise tell an error, and change nothing."""
    assert split_structures(["given-000"], validation) == {"given-000": "train"}
    assert "train" in split_structures(["given-000", "given-001"], validation).values()


def test_large_kinds_are_dealt_out_in_rounds() -> None:
    letters = "".join(
        use[:2] for use in split_structures([f"a-{at}" for at in range(9)], 0.15).values()
    )
    assert letters == "tetrtrvatrtrtrtetr"
    letters = "".join(
        use[:2] for use in split_structures([f"a-{at}" for at in range(3)], 1 / 3).values()
    )
    assert letters == "tevatr"


def test_something_is_always_left_to_choose_by() -> None:
    names = ["20K-0", "20K-1", "20K-2", "vacancy-0"]
    assert list(split_structures(names, 0.15).values()) == ["test", "train", "validation", "train"]
    assert list(split_structures(["20K-0", "20K-1"], 0.15).values()) == ["test", "train"]
