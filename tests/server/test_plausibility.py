"""Bounds: real materials pass, the same in the wrong unit do not; forces need a close pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.collections import g2
from cells import frames
from hypothesis import given
from hypothesis import strategies as st

from mixserver.config import Limits
from mixserver.core.errors import Implausible
from mixserver.core.frame import Frame, Topology
from mixserver.geometry import neighbour_list
from mixserver.server.reference.packing import (
    check_packing,
    measure_packing,
)
from mixserver.server.reference.plausibility import (
    implausible_energy,
    implausible_forces,
    implausible_positions,
    implausible_pressure,
    repulsion,
    zbl,
)

BOHR = 0.529177
LIMITS = Limits()
ELEMENTS = (
    "Li Be C Na Mg Al Si K Ca Ti V Cr Fe Co Ni Cu Zn Ge Rb Sr Zr Nb Mo Ru Rh Pd "
    "Ag Cd Cs Ba La Ce Gd Hf Ta W Re Os Ir Pt Au Tl Pb Th"
)
COMPOUNDS = {
    "NaCl": bulk("NaCl", "rocksalt", a=5.64),
    "CsCl": bulk("CsCl", "cesiumchloride", a=4.12),
    "MgO": bulk("MgO", "rocksalt", a=4.21),
    "SiC": bulk("SiC", "zincblende", a=4.36),
    "PdH": bulk("PdH", "rocksalt", a=4.05),
    "UO2": bulk("UO2", "fluorite", a=5.47),
}
W = bulk("W", cubic=True) * (3, 3, 3)


def _frame(atoms: Atoms, scale: float = 1.0) -> Frame:
    periodic = tuple(bool(along) for along in atoms.pbc)
    topology = Topology(atoms.numbers.astype(np.int32), periodic)  # type: ignore[arg-type]
    return Frame(topology, atoms.positions * scale, np.array(atoms.cell[:]) * scale)


def _refuse(frame: Frame, limits: Limits = LIMITS) -> None:
    check_packing(frame, measure_packing(frame), limits, "init.xyz")


@pytest.mark.parametrize("element", ELEMENTS.split(" "))
def test_crystals_pass_and_the_same_in_bohr_are_refused(element: str) -> None:
    crystal = bulk(element)
    _refuse(_frame(crystal))
    _refuse(_frame(crystal, 0.45 ** (1 / 3)))  # hundreds of GPa in most
    with pytest.raises(Implausible, match="bohr"):
        _refuse(_frame(crystal, BOHR))
    _refuse(_frame(crystal, BOHR), Limits(density=math.inf))


@pytest.mark.parametrize("name", COMPOUNDS)
def test_compounds_pass_and_the_same_in_bohr_are_refused(name: str) -> None:
    _refuse(_frame(COMPOUNDS[name]))
    with pytest.raises(Implausible, match="bohr"):
        _refuse(_frame(COMPOUNDS[name], BOHR))


def test_molecules_and_lone_atoms_pass() -> None:
    for name in g2.names:
        for scale in (1.0, 0.85):
            atoms = g2[name]
            atoms.center(vacuum=4.0)
            _refuse(_frame(atoms, scale))
    lone = measure_packing(_frame(Atoms("He", cell=[20.0] * 3, pbc=True)))
    assert lone.closest is None
    assert math.isinf(lone.median)


@pytest.mark.parametrize("apart", [0.0, 1e-12, 0.05, 0.2])
def test_overlapping_atoms_are_named_with_their_image(apart: float) -> None:
    atoms = Atoms("HO", [[0.0, 0.0, 1.0], [0.0, 0.0, 9.0]], cell=[8.0 - apart] * 3, pbc=True)
    found = measure_packing(_frame(atoms)).closest
    assert found is not None
    # 9 Å is in the cell 1 Å and a little above its lower face
    assert found.distance == pytest.approx(apart, abs=1e-9)
    if apart < 0.09:
        with pytest.raises(Implausible, match=r"overlap.*H \(atom 0\)"):
            _refuse(_frame(atoms))
        _refuse(_frame(atoms), Limits(shortest_pair=0.0, density=math.inf))


def test_an_atom_near_its_own_image_is_seen() -> None:
    seen = measure_packing(_frame(bulk("Fe"), 0.2))
    assert seen.closest is not None
    assert any(seen.closest.image)
    assert seen.closest.distance == pytest.approx(0.2 * 2.87 * math.sqrt(0.75))


@given(frames(atoms=12))
def test_the_closest_pair_is_that_of_all_pairs(frame: Frame) -> None:
    pairs = neighbour_list(frame, 2.2)
    seen = measure_packing(frame)
    if len(pairs.distance) and pairs.distance.min() < 2.2:
        assert seen.closest is not None
        assert seen.closest.distance == pytest.approx(pairs.distance.min(), abs=1e-8)
        first, second = seen.closest.first, seen.closest.second
        shift = np.array(seen.closest.image) @ frame.cell
        vector = frame.wrapped[second] + shift - frame.wrapped[first]
        assert np.linalg.norm(vector) == pytest.approx(seen.closest.distance, abs=1e-8)


@given(st.integers(1, 96), st.integers(1, 96), st.floats(0.05, 3.0))
def test_the_repulsion_is_the_slope_of_the_universal_potential(a: int, b: int, r: float) -> None:
    def energy(at: float) -> float:
        x = at * (a**0.23 + b**0.23) / 0.46850  # Å, as the formula is usually given
        phi = (
            0.18175 * math.exp(-3.1998 * x)
            + 0.50986 * math.exp(-0.94229 * x)
            + 0.28022 * math.exp(-0.4029 * x)
            + 0.02817 * math.exp(-0.20162 * x)
        )
        return 14.399645 * a * b / at * phi

    step = 1e-5 * r
    slope = (energy(r - step) - energy(r + step)) / (2.0 * step)
    found = zbl(np.array([a], np.int32), np.array([b], np.int32), np.array([r]))
    assert found[0] == pytest.approx(slope, rel=2e-3)


@given(st.floats(0.25, 2.0), st.floats(0.2, 10.0))
def test_cascades_pass_however_hard_a_close_pair_pushes(apart: float, stiffer: float) -> None:
    atoms = W.copy()
    atoms.positions[0] = atoms.positions[1] + [apart, 0.0, 0.0]
    frame = _frame(atoms)
    forces = np.zeros((len(atoms), 3))
    forces[:, 0] = stiffer * repulsion(frame, np.arange(len(atoms)))
    assert implausible_forces(frame, forces, LIMITS) == ""
    _refuse(frame, Limits(shortest_pair=0.05))


@given(st.integers(0, len(W) - 1), st.floats(1e3, 1e30))
def test_a_strong_force_without_a_close_pair_is_wrong(atom: int, size: float) -> None:
    forces = np.full((len(W), 3), 1.0)
    forces[atom] = size
    wrong = implausible_forces(_frame(W), forces, LIMITS)
    assert f"W (atom {atom})" in wrong
    assert implausible_forces(_frame(W), forces, Limits(force=math.inf)) == ""


@given(st.floats(-1e9, 1e9), st.floats(-90.0, 90.0), st.integers(1, 10**6))
def test_energies_have_no_zero(zero: float, change: float, atoms: int) -> None:
    assert implausible_energy(zero + change * atoms, zero, atoms, LIMITS) == ""
    assert "per atom" in implausible_energy(zero - 130.0 * atoms - 130.0, zero, atoms, LIMITS)


def test_pressure_and_places() -> None:
    assert implausible_pressure(np.eye(3) * 6.0, np.eye(3), LIMITS) == ""  # 960 GPa
    assert "GPa" in implausible_pressure(np.eye(3) * 100.0, -np.eye(3), LIMITS)
    assert implausible_positions(_frame(W)) == ""
    far = W.copy()
    far.positions[3, 1] = -1e9
    assert "atom 3" in implausible_positions(_frame(far))
