"""Weighted site energies from LAMMPS: exact gradients, whatever was evaluated before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mixserver_worker.conformance import (
    System,
    Tolerance,
    check_engine,
    check_forces,
    check_virial,
    evaluate,
)
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.weighting import atom_types, passes, scheme

from mixserver.core.errors import BadInput

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

EXACT = Tolerance(difference=1e-8, step=2e-4)
"""What energy mixing asks of continuous weights. Small steps, because the second derivatives of
SNAP and ZBL jump where a neighbour crosses their cutoffs."""
TABLES = Tolerance(same=1e-8)
"""For tables, whose energies are sampled."""
SAME_STATE = 1e-11
"""eV/Å and eV per atom, relative to the largest force, between an old instance and a new one."""

TEXTS = {
    "snap": "include Si_Zuo_JPCA2020.snap\n",
    "quadratic": "include Si_Zuo_JPCA2020.quadratic.snap\n",
    "snap + zbl": "include W_2940_2017_2.snap\n",
    "two elements": "include WBe_Wood_PRB2019.snap\n",
    "explicit multi-element": "include InP_JCPA2020.snap\n",
    "snap + zbl + tables": "include W_2940_2017_2_He_JW2013.snap\nlabelmap atom 1 W 2 He\n",
    "two snaps": (
        "pair_style hybrid/overlay snap zero 5.0 snap zbl 3.0 3.5\npair_coeff * * zero\n"
        "pair_coeff * * snap 1 Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si NULL\n"
        "pair_coeff * * snap 2 Ge_Zuo_JPCA2020.snapcoeff Ge_Zuo_JPCA2020.snapparam NULL Ge\n"
        "pair_coeff 1 1 zbl 14 14\npair_coeff 1 2 zbl 14 32\npair_coeff 2 2 zbl 32 32\n"
    ),
    "zbl": "labelmap atom 1 W\npair_style zbl 4.0 4.8\npair_coeff 1 1 74 74\n",
    "table": "labelmap atom 1 He\npair_style table spline 10000\n"
    "pair_coeff 1 1 He_He_JW2013.table HeHe\n",
    "tables": (
        "labelmap atom 1 W 2 He\npair_style table spline 2000\n"
        "pair_coeff W He W_He_JW2013.table WHe\npair_coeff He He He_He_JW2013.table HeHe\n"
        "pair_coeff W W He_He_JW2013.table HeHe 3.0\n"
    ),
    "hybrid of pairs": (
        "labelmap atom 1 W 2 Be\npair_style hybrid lj/smooth/linear 4.5 zbl 4.0 4.8\n"
        "pair_coeff W W zbl 74 74\npair_coeff W Be lj/smooth/linear 0.02 2.2\n"
        "pair_coeff Be Be lj/smooth/linear 0.03 2.0\n"
    ),
}
SECOND = {"two elements": 4, "explicit multi-element": 15, "snap + zbl + tables": 2}
SECOND |= {"two snaps": 32, "hybrid of pairs": 4, "tables": 2}
FIRST = {"snap": 14, "quadratic": 14, "explicit multi-element": 49, "two snaps": 14, "table": 2}
GENERAL = np.array([[1.0, 0.06, -0.04], [0.1, 1.02, 0.08], [0.12, -0.2, 0.98]])

Make = Callable[..., LammpsEngine]


def crystal(name: str = "snap + zbl", copies: int = 2, seed: int = 3) -> System:
    """Bcc, atoms off their sites, in a cell without right angles."""
    steps = np.stack(np.meshgrid(*[np.arange(copies)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    positions = 3.2 * (steps + np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])).reshape(-1, 3)
    positions += np.random.default_rng(seed).normal(scale=0.1, size=positions.shape)
    numbers = np.full(len(positions), FIRST.get(name, 74), np.int32)
    numbers[:: 3 if copies < 4 else 7] = SECOND.get(name, FIRST.get(name, 74))
    return System(positions @ GENERAL, numbers, 3.2 * copies * GENERAL)


def some_weights(system: System, seed: int = 1) -> np.ndarray:
    """A core of 0, a blend and 1 around it."""
    dice = np.random.default_rng(seed)
    fraction = (system.positions - system.positions[dice.integers(len(system))]) @ np.linalg.inv(
        system.cell
    )
    away = np.linalg.norm((fraction - np.rint(fraction)) @ system.cell, axis=1)
    return np.clip((away - dice.uniform(0.0, 8.0)) / dice.uniform(1.0, 4.0), 0.0, 1.0)


@pytest.mark.parametrize("name", TEXTS)
def test_conforms_with_weights(name: str, kept: Make) -> None:
    one = kept(TEXTS[name])
    assert one.card.weights
    check_engine(one, crystal(name), tolerance=TABLES if "table" in name else None)


@pytest.mark.parametrize("name", ["snap", "quadratic", "snap + zbl", "two elements", "zbl"])
def test_forces_and_virial_are_the_gradient_to_1e_8(name: str, kept: Make) -> None:
    one = kept(TEXTS[name])
    check_forces(one, crystal(name), EXACT, count=4)
    check_virial(one, crystal(name), EXACT)


@pytest.mark.parametrize("name", ["snap + zbl + tables", "tables"])
def test_forces_of_tables_are_the_slope_of_their_energies(name: str, kept: Make) -> None:
    one, system = kept(TEXTS[name]), crystal(name)
    check_forces(one, system, EXACT, count=12)
    weight = np.ones(len(system))
    weight[0] = 0.999999
    plain, weighted = evaluate(one, system), evaluate(one, system, weight=weight)
    apart = np.abs(plain.forces - weighted.forces).max()
    assert 1e-5 < apart < 1e-2
    assert weighted.energy == pytest.approx(weight @ plain.energies, abs=1e-8)
    assert one.pool.scheme.curves[0].inconsistency > 1e-3


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (False, False, False)])
def test_conforms_with_weights_in_any_cell(pbc: tuple[bool, bool, bool], kept: Make) -> None:
    check_engine(kept(TEXTS["snap + zbl"]), replace(crystal(), pbc=pbc))


def test_conforms_with_weights_in_a_cell_much_smaller_than_the_cutoff(kept: Make) -> None:
    cell = np.array([[0.0, 2.2, 2.2], [2.2, 0.0, 2.2], [2.2, 2.2, 0.0]])
    system = System(np.array([[0.0, 0, 0], [2.3, 1.9, 2.0]]), np.full(2, 74, np.int32), cell)
    check_engine(kept(TEXTS["snap + zbl"]), system)


@pytest.mark.parametrize("name", ["snap", "quadratic", "snap + zbl", "two elements"])
def test_conforms_where_lammps_ignores_scales(name: str, kept: Make) -> None:
    one = kept(TEXTS[name])
    one.pool.scheme = replace(one.pool.scheme, snap_method="coefficients")
    scheme.check(one.pool.scheme)
    check_engine(one, crystal(name))


def test_conforms_with_more_weights_than_atom_types(
    kept: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MOST_WEIGHTS", 4)
    one = kept(TEXTS["snap + zbl"])
    check_engine(one, crystal())
    one.pool.remove((0, "weighted"))
    evaluate(one, crystal(), weight=np.linspace(0.1, 0.9, 16))
    assert len(one.pool.instances[0, "weighted"].snaps.instances) == 6


@pytest.mark.parametrize(("name", "seed"), [("snap", 1), ("snap + zbl + tables", 2)])
def test_a_walk_of_weights_and_positions_agrees_with_new_instances(
    name: str, seed: int, kept: Make
) -> None:
    one, home = kept(TEXTS[name]), crystal(name, copies=4)
    dice, weight, system = np.random.default_rng(seed), np.ones(len(home)), home
    for step in range(14):
        size = dice.choice([0.02, 0.3])
        jumps = dice.integers(-1, 2, home.positions.shape) * (dice.random() < 0.2)
        moved = home.positions + dice.normal(scale=size, size=home.positions.shape)
        system = replace(home, positions=moved + jumps @ home.cell)
        if dice.random() < 0.3:
            strain = np.eye(3) + dice.normal(scale=0.01, size=(3, 3))
            system = replace(system, positions=system.positions @ strain, cell=home.cell @ strain)
        kind = dice.choice(["keep", "region", "inside out", "some", "all", "none"])
        if kind in ("region", "inside out"):
            weight = some_weights(system, step)
            weight = 1.0 - weight if kind == "inside out" else weight
        if kind in ("some", "all"):
            chosen = dice.random(len(weight)) < (0.2 if kind == "some" else 1.0)
            weight = np.where(chosen, dice.random(len(weight)), weight)
        if kind == "none":
            weight = np.zeros(len(weight))
        got = evaluate(one, system, weight=weight)
        fresh = evaluate(one, system, weight=weight, stream=7)
        one.pool.remove((7, "weighted"))
        plain = evaluate(one, system)
        one.pool.remove(0)
        assert plain.energies is not None
        room = SAME_STATE * max(1.0, np.abs(plain.forces).max())
        np.testing.assert_allclose(got.forces, fresh.forces, rtol=0, atol=room)
        np.testing.assert_allclose(got.virial, fresh.virial, rtol=0, atol=room * len(weight))
        assert got.energy == pytest.approx(weight @ plain.energies, abs=room * len(weight))
        asked = weight != 0.0
        np.testing.assert_allclose(
            got.energies[asked], plain.energies[asked], rtol=0, atol=room * 10
        )


@pytest.mark.parametrize("name", ["snap + zbl", "zbl"])
def test_a_sequence_of_cells_agrees_with_new_instances(name: str, kept: Make) -> None:
    one, dice = kept(TEXTS[name]), np.random.default_rng(4)
    for seed in range(4):
        strain = np.eye(3) + dice.normal(scale=0.05, size=(3, 3))
        system = crystal(name, copies=3, seed=seed)
        system = replace(system, positions=system.positions @ strain, cell=system.cell @ strain)
        order = dice.permutation(len(system))
        system = replace(system, positions=system.positions[order])
        weight = some_weights(system, seed)
        got = evaluate(one, system, weight=weight)
        fresh = evaluate(one, system, weight=weight, stream=seed + 1)
        np.testing.assert_allclose(got.forces, fresh.forces, atol=1e-9)


def test_weighted_and_unweighted_instances_of_a_stream_are_both_kept(kept: Make) -> None:
    one, system = kept(TEXTS["snap + zbl"]), crystal(copies=3)
    weight = some_weights(system)
    plain, weighted = evaluate(one, system), evaluate(one, system, weight=weight)
    instances = dict(one.pool.instances)
    assert len(instances) == 2
    for _ in range(3):
        again = evaluate(one, system), evaluate(one, system, weight=weight)
        np.testing.assert_allclose(again[0].forces, plain.forces, rtol=0, atol=1e-12)
        np.testing.assert_allclose(again[1].forces, weighted.forces, rtol=0, atol=1e-12)
    assert all(one.pool.instances[key] is instance for key, instance in instances.items())


def test_a_growing_blend_gets_more_atom_types(kept: Make) -> None:
    one, system = kept(TEXTS["snap + zbl"]), crystal(copies=4)
    plain = evaluate(one, system)
    for count in (1, 10, 40, 100, 20):
        weight = np.ones(len(system))
        weight[:count] = np.linspace(0.0, 0.9, count)
        got = evaluate(one, system, weight=weight)
        assert got.energy == pytest.approx(weight @ plain.energies, abs=1e-9)
    assert len(one.pool.instances) == 2


@pytest.mark.parametrize("name", ["snap", "zbl"])
def test_excess_atom_types_are_dropped_after_a_while(
    name: str, kept: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atom_types, "SHRINK_AFTER", 4)
    one, system = kept(TEXTS[name]), crystal(name, copies=3)
    few, many = np.ones(len(system)), np.linspace(0.1, 0.9, len(system))
    few[:5] = np.linspace(0.1, 0.9, 5)

    def rooms(weight: np.ndarray, times: int) -> list[int]:
        """After each evaluation, the types of all parts."""
        found = []
        for _ in range(times):
            got = evaluate(one, system, weight=weight)
            parts = one.pool.instances[0, "weighted"]
            snaps = parts.snaps.instances
            types = [sum(snap.types.room) for snap in snaps]
            types += [term.available for term in (parts.pairs.as_eam if parts.pairs else ())]
            found.append(sum(types))
            fresh = evaluate(one, system, weight=weight, stream=7)
            one.pool.remove((7, "weighted"))
            np.testing.assert_allclose(got.forces, fresh.forces, rtol=0, atol=1e-9)
            assert got.energy == pytest.approx(fresh.energy, abs=1e-9)
        return found

    (small,) = set(rooms(few, 3))
    (large,) = set(rooms(many, 2))
    assert large > 3 * small
    assert rooms(few, 4) == [large] * 4
    assert rooms(many, 1) == [large]  # needed again: the count restarts
    assert rooms(few, 6) == [large] * 4 + [small] * 2
    assert rooms(many, 1) == [large]


def test_a_shrinking_blend_returns_to_one_pass(kept: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atom_types, "SHRINK_AFTER", 2)
    monkeypatch.setattr(passes, "MOST_WEIGHTS", 30)
    one, system = kept(TEXTS["snap"]), crystal("snap", copies=4)
    few = np.ones(len(system))
    few[:5] = 0.5
    evaluate(one, system, weight=np.linspace(0.1, 0.9, len(system)))
    counts = [len(one.pool.instances[0, "weighted"].snaps.instances)]
    for _ in range(3):
        got = evaluate(one, system, weight=few)
        counts.append(len(one.pool.instances[0, "weighted"].snaps.instances))
    assert counts == [6, 6, 6, 1]
    assert got.energy == pytest.approx(few @ evaluate(one, system).energies, abs=1e-9)


@pytest.mark.parametrize("name", ["snap", "zbl", "snap + zbl"])
def test_positions_refused_while_types_are_added_leave_no_state(name: str, kept: Make) -> None:
    one, system = kept(TEXTS[name]), crystal(name, copies=3)
    few, many = np.ones(len(system)), np.linspace(0.1, 0.9, len(system))
    few[:3] = 0.5
    evaluate(one, system, weight=few)
    touching = system.positions.copy()
    touching[3] = touching[40] + 1e-3
    for _ in range(2):
        with pytest.raises(BadInput, match="atoms 3 and 40"):
            evaluate(one, replace(system, positions=touching), weight=many)
    for weight in (many, few):
        expected = evaluate(one, system, weight=weight, stream=8)
        got = evaluate(one, system, weight=weight)
        np.testing.assert_allclose(got.forces, expected.forces, atol=1e-10)


def test_atoms_far_from_sites_are_invisible_to_snap(kept: Make) -> None:
    one, system = kept(TEXTS["snap + zbl"]), crystal(copies=8)
    weight = np.zeros(len(system))
    weight[5] = 0.5
    plain, got = evaluate(one, system), evaluate(one, system, weight=weight)
    assert got.energy == pytest.approx(0.5 * plain.energies[5], abs=1e-10)
    kinds = one.pool.instances[0, "weighted"].snaps.instances[0].library.types()
    assert (kinds == 1).sum() > 0.5 * len(system)


def test_refused_positions_leave_no_state(kept: Make) -> None:
    one, system = kept(TEXTS["snap + zbl"]), crystal(copies=3)
    weight = some_weights(system)
    before = evaluate(one, system, weight=weight)
    touching = system.positions.copy()
    touching[3] = touching[40] + 1e-3
    inverse = 1.0 - weight
    with pytest.raises(BadInput, match="atoms 3 and 40"):
        evaluate(one, replace(system, positions=touching), weight=inverse)
    expected = evaluate(one, system, weight=inverse, stream=8)
    got = evaluate(one, system, weight=inverse)
    np.testing.assert_allclose(got.forces, expected.forces, atol=1e-10)
    again = evaluate(one, system, weight=weight)
    np.testing.assert_allclose(again.forces, before.forces, atol=1e-10)


def test_after_an_error_lammps_is_tried_again_in_new_instances(kept: Make) -> None:
    one, system = kept(TEXTS["snap + zbl"]), crystal()
    weight = some_weights(system)
    before = evaluate(one, system, weight=weight)
    old = one.pool.instances[0, "weighted"]
    old.pairs.as_eam[0].library.command("uncompute mx_v")
    after = evaluate(one, system, weight=weight)
    assert one.pool.instances[0, "weighted"] is not old
    np.testing.assert_allclose(after.forces, before.forces, atol=1e-10)


@pytest.mark.parametrize("criterion", ["coord/atom cutoff 2.9", "pe/atom", "coord/atom cutoff 3 2"])
def test_criteria_do_not_depend_on_weights(criterion: str, kept: Make) -> None:
    one, system = kept(TEXTS["two elements"]), crystal("two elements")
    plain = evaluate(one, system, criterion=criterion)
    weighted = evaluate(one, system, criterion=criterion, weight=some_weights(system))
    assert len(np.unique(plain.values)) > 1
    np.testing.assert_allclose(weighted.values, plain.values, atol=1e-10)


def test_a_refused_criterion_harms_nothing(kept: Make) -> None:
    one, system = kept(TEXTS["snap + zbl"]), crystal()
    weight = some_weights(system)
    before = evaluate(one, system, weight=weight)
    for criterion in ("coord/atom cutoff 12.0", "nonsense/atom 3", "coord/atom"):
        with pytest.raises(BadInput, match=criterion.split()[0]):
            evaluate(one, system, weight=weight, criterion=criterion)
    after = evaluate(one, system, weight=weight)
    np.testing.assert_array_equal(after.forces, before.forces)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pair_style edip\npair_coeff * * Si.edip Si\n", "does not support compute pair/local"),
        ("labelmap atom 1 Cu\npair_style eam\npair_coeff 1 1 Cu_u3.eam\n", "not pairwise"),
        (
            "pair_style hybrid/overlay edip zbl 3.0 3.5\npair_coeff * * edip Si.edip Si\n"
            "pair_coeff 1 1 zbl 14 14\n",
            "pair/local|single",
        ),
        (
            "pair_style lj/cut 5.0\npair_modify tail yes\nlabelmap atom 1 Si\n"
            "pair_coeff * * 0.1 2.2\n",
            "no site energies",
        ),
    ],
)
def test_the_message_has_the_reason_why_sites_cannot_be_weighted(
    text: str, reason: str, kept: Make
) -> None:
    one = kept(text)
    assert not one.card.weights
    system = crystal()
    system.numbers[:] = one.card.species[0]
    with pytest.raises(BadInput, match=f"(?s)({reason}).*hybrid/overlay.*force mixing"):
        evaluate(one, system, weight=np.linspace(0.0, 1.0, len(system)))
