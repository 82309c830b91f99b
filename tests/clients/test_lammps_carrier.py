"""Pairwise potentials that LAMMPS weights itself say what listed pairs say, for any weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.engines import lammps_weights
from clients.engines.lammps import LammpsEngine
from clients.engines.lammps_weights import Plan
from clients.testing import System, Tolerance, check_forces, check_virial, evaluate

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

EXACT = Tolerance(difference=1e-8, step=2e-4)
SAME = 1e-8
"""Between carriers and listed pairs, relative to the largest force."""
KINKED = 2e-5
"""eV/Å, likewise, where a table's own cubics are as coarse as that."""
GENERAL = np.array([[1.0, 0.06, -0.04], [0.1, 1.02, 0.08], [0.12, -0.2, 0.98]])

LJ = "labelmap atom 1 Ar\npair_style lj/cut 5.0\npair_coeff 1 1 0.02 2.6\n"
ZBL = "labelmap atom 1 Si\npair_style zbl 4.0 4.8\npair_coeff 1 1 14 14\n"
MIXED = (
    "labelmap atom 1 W 2 Be\npair_style hybrid lj/cut 4.5 zbl 4.0 4.8\n"
    "pair_coeff W W zbl 74 74\npair_coeff W Be lj/cut 0.02 2.2\n"
    "pair_coeff Be Be lj/cut 0.03 2.0 4.0\n"
)
TABLES = (
    "labelmap atom 1 W 2 He\npair_style table spline 2000\n"
    "pair_coeff W He W_He_JW2013.table WHe\npair_coeff He He He_He_JW2013.table HeHe\n"
    "pair_coeff W W He_He_JW2013.table HeHe\n"
)
LINEAR = "labelmap atom 1 He\npair_style table linear 500\npair_coeff 1 1 He_He_JW2013.table HeHe\n"

Make = Callable[..., LammpsEngine]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Make]:
    made: list[LammpsEngine] = []

    def make(text: str) -> LammpsEngine:
        path = tmp_path / f"potential{len(made)}.in"
        path.write_text(text)
        made.append(LammpsEngine(path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def plan_of(one: LammpsEngine) -> Plan:
    assert isinstance(one._weighting, Plan)
    return one._weighting


def crystal(one: LammpsEngine, copies: int = 4, seed: int = 3) -> System:
    """Bcc of all elements, atoms off their sites, in a cell without right angles."""
    dice = np.random.default_rng(seed)
    steps = np.stack(np.meshgrid(*[np.arange(copies)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = 3.1 * (steps + np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])).reshape(-1, 3)
    positions += dice.normal(scale=0.08, size=positions.shape)
    numbers = dice.choice(np.array(one.card.species, np.int32), len(positions))
    return System(positions @ GENERAL, numbers, 3.1 * copies * GENERAL)


def listed(one: LammpsEngine, make: Make, text: str) -> LammpsEngine:
    """The same potential, pairs listed and weighted one by one."""
    other = make(text)
    other._weighting = replace(plan_of(one), carriers=())
    return other


@pytest.mark.parametrize(
    ("text", "carriers", "room"),
    [(LJ, 1, SAME), (ZBL, 1, SAME), (MIXED, 3, SAME), (TABLES, 2, KINKED)],
)
def test_carriers_say_what_listed_pairs_say(
    text: str, carriers: int, room: float, engine: Make
) -> None:
    one = engine(text)
    assert len(plan_of(one).carriers) == carriers
    slow, system, dice = listed(one, engine, text), crystal(one), np.random.default_rng(0)
    old = None
    for step in range(8):
        weight = dice.random(len(system))
        weight[dice.random(len(system)) < 0.3] = dice.choice([0.0, 1.0, 0.5])
        weight[: 20 * step] = 0.0
        got, expected = evaluate(one, system, weight=weight), evaluate(slow, system, weight=weight)
        scale = max(1.0, float(np.abs(expected.forces).max()))
        assert got.energy == pytest.approx(weight @ evaluate(one, system).energies, abs=SAME)
        np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=room * scale)
        np.testing.assert_allclose(got.virial, expected.virial, rtol=0, atol=100 * room * scale)
        np.testing.assert_allclose(got.energies, expected.energies, rtol=0, atol=SAME)
        parts = one._instances[0, "weighted"]
        assert parts._pairs is None
        assert old is None or parts._carried[0] is old
        old = parts._carried[0]
        moved = system.positions + dice.normal(scale=0.03, size=system.positions.shape)
        if step == 4:
            strain = np.eye(3) + dice.normal(scale=0.01, size=(3, 3))
            system = replace(system, positions=moved @ strain, cell=system.cell @ strain)
        else:
            system = replace(system, positions=moved)


@pytest.mark.parametrize("text", [LJ, ZBL, MIXED, TABLES])
def test_forces_and_virial_are_the_gradient_to_1e_8(text: str, engine: Make) -> None:
    one = engine(text)
    system = crystal(one, copies=3)
    check_forces(one, system, EXACT, count=4)
    if text == ZBL:  # the others' energies jump at cutoffs, which a strain moves many pairs across
        check_virial(one, system, EXACT)


def test_energies_jump_at_a_cutoff_as_they_do_in_lammps(engine: Make) -> None:
    one = engine(LJ)
    cell, numbers = np.eye(3) * 20.0, np.full(2, 18, np.int32)
    weight = np.array([0.5, 0.25])
    for distance in (5.0 - 1e-7, 5.0 + 1e-7, 3.0, 2.2):
        system = System(np.array([[1.0, 1, 1], [1.0, 1, 1 + distance]]), numbers, cell)
        plain, got = evaluate(one, system), evaluate(one, system, weight=weight)
        assert (plain.energy == 0.0) == (distance > 5.0)
        assert got.energy == pytest.approx(0.375 * plain.energy, abs=1e-11)
        np.testing.assert_allclose(got.forces, 0.375 * plain.forces, atol=1e-8)


@pytest.mark.parametrize("weight", [1e-140, 0.3, 0.999])
def test_atoms_closer_than_the_tables_are_left_to_listed_pairs(weight: float, engine: Make) -> None:
    one = engine(LJ)
    (carrier,) = plan_of(one).carriers
    nearest = carrier.step * np.flatnonzero(carrier.tables[0][1] < 1e299)[0]
    assert 0.3 < nearest < 1.0
    start = np.array([[1.0, 1, 1], [1.0, 1, 4], [1, 4, 1]])
    system = System(start, np.full(3, 18, np.int32), np.eye(3) * 20)
    weights = np.full(3, weight)
    evaluate(one, system, weight=weights)
    assert one._instances[0, "weighted"]._pairs is None
    close = start.copy()
    close[1, 2] = 1.0 + 0.7 * nearest
    system = replace(system, positions=close)
    plain, got = evaluate(one, system), evaluate(one, system, weight=weights)
    assert one._instances[0, "weighted"]._pairs is not None
    np.testing.assert_allclose(got.forces, weight * plain.forces, rtol=1e-12)
    np.testing.assert_allclose(got.energies, plain.energies, rtol=1e-12)
    for _ in range(lammps_weights._REST + 1):
        evaluate(one, replace(system, positions=start), weight=weights)
    assert one._instances[0, "weighted"]._resting == 0


def test_types_grow_with_the_weights_and_there_is_a_way_beyond_them(
    engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine(ZBL)
    system = crystal(one)
    e = evaluate(one, system).energies
    monkeypatch.setattr(lammps_weights, "MOST_WEIGHTS", 100)
    for count, lists in ((1, False), (60, False), (99, False), (128, True), (3, True)):
        weight = np.ones(len(system))
        weight[:count] = np.linspace(0.0, 0.9, count)
        got = evaluate(one, system, weight=weight)
        assert got.energy == pytest.approx(weight @ e, abs=1e-8)
        assert (one._instances[0, "weighted"]._pairs is not None) == lists


@pytest.mark.parametrize(
    "text",
    [
        LINEAR,
        LJ + "neigh_modify exclude group all all\n",
        LJ.replace("lj/cut 5.0", "hybrid/overlay lj/cut 5.0 lj/cut 3.0")
        .replace("1 1 0.02 2.6\n", "1 1 lj/cut 1 0.02 2.6\npair_coeff 1 1 lj/cut 2 0.05 2.0\n"),
        "atom_style charge\nlabelmap atom 1 Na 2 Cl\npair_style born/coul/wolf 0.25 6.0\n"
        "pair_coeff * * 0.1 0.3 2.3 1.0 0.5\nset type 1 charge 1\nset type 2 charge -1\n",
    ],
    ids=["kinks", "exclusions", "jumps inside", "charges"],
)  # fmt: skip
def test_what_does_not_fit_is_not_carried(text: str, engine: Make) -> None:
    one = engine(text)
    weighting = one._weighting
    assert isinstance(weighting, str) or weighting.carriers == ()
    if not isinstance(weighting, str):
        system = crystal(one, copies=2)
        weight = np.linspace(0.0, 1.0, len(system))
        e = evaluate(one, system).energies
        assert evaluate(one, system, weight=weight).energy == pytest.approx(weight @ e, abs=1e-7)
