"""Dead loads: they cancel ghost forces at a reference, and have an energy everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from cells import frame_of, frames, silicon
from hypothesis import given, settings
from hypothesis import strategies as st
from manybody import ManyBody
from mixing_routes import mix
from region_models import divide
from tolerance import EXACT, FINITE_DIFFERENCE

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.mixing import ForceMixer, MixedResult, ModelCapabilities
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.mixer import Mixer
from mixserver.region import AtomSeeds, Region, ShellRegion

CHEAP, EXPENSIVE = ManyBody(2.8, 0.7), ManyBody(2.8)
REACH = ModelCapabilities(EXPENSIVE.receptive_field, weights=True, energies=True)
STEP = 1e-4
"""Å, and strain; the energy is linear in positions, so only rounding matters."""
AT_REFERENCE = 1e-10
"""eV/Å, what is demanded of energy-mixed forces with loads against force-mixed ones."""
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _loads(frame: Frame, rng: np.random.Generator) -> DeadLoads:
    """Any loads on some of the atoms."""
    have, want = np.zeros((2, len(frame), 3))
    some = rng.random(len(frame)) < 0.6
    want[some] = rng.normal(size=(np.count_nonzero(some), 3))
    return DeadLoads.between(frame, have, want)


def _moved(frame: Frame, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    return frame_of(positions, frame.cell if cell is None else cell, frame.topology.pbc)


def _close(frame: Frame, rng: np.random.Generator) -> Frame:
    """Atoms moved by up to a tenth of a cell, so that none parts from another by half of it."""
    return _moved(frame, frame.positions + rng.uniform(-0.1, 0.1, (len(frame), 3)) @ frame.cell)


@given(frames(), rngs)
def test_energy_is_the_work_against_constant_forces(frame: Frame, rng: np.random.Generator) -> None:
    loads, there = _loads(frame, rng), _close(frame, rng)
    moved = (there.positions - frame.positions)[loads.atoms]
    assert loads.at(there).energy == pytest.approx(-np.vdot(loads.forces, moved), abs=EXACT)
    assert loads.at(frame).energy == 0.0
    np.testing.assert_allclose(loads.forces.sum(axis=0), 0.0, atol=1e-12)


@given(frames(), rngs)
def test_forces_and_virial_are_its_derivatives(frame: Frame, rng: np.random.Generator) -> None:
    loads, there = _loads(frame, rng), _close(frame, rng)
    dense = np.zeros(frame.positions.shape)
    dense[loads.atoms] = loads.forces

    def slope(change: np.ndarray, strain: np.ndarray) -> float:
        ahead, behind = (
            loads.at(
                _moved(
                    there,
                    there.positions @ (np.eye(3) + sign * strain) + sign * change,
                    there.cell @ (np.eye(3) + sign * strain),
                )
            ).energy
            for sign in (1.0, -1.0)
        )
        return (ahead - behind) / (2.0 * STEP)

    scale = max(1.0, np.abs(frame.positions).max())
    for atom in range(len(frame)):
        for axis in range(3):
            change = np.zeros(frame.positions.shape)
            change[atom, axis] = STEP
            wanted = -slope(change, np.zeros((3, 3)))
            assert dense[atom, axis] == pytest.approx(wanted, abs=FINITE_DIFFERENCE * scale)
    virial = loads.at(there).virial
    np.testing.assert_array_equal(virial, virial.T)
    for one in range(3):
        for other in range(one, 3):
            strain = np.zeros((3, 3))
            strain[one, other] += 0.5 * STEP
            strain[other, one] += 0.5 * STEP
            wanted = -slope(np.zeros(frame.positions.shape), strain)
            assert virial[one, other] == pytest.approx(wanted, abs=FINITE_DIFFERENCE * scale)


@given(frames(), rngs, st.sampled_from([0.0, 1.0, 1000.0]))
def test_wrapping_and_a_common_drift_change_nothing(
    frame: Frame, rng: np.random.Generator, cells: float
) -> None:
    loads, there = _loads(frame, rng), _close(frame, rng)
    turns = rng.integers(-2, 3, frame.positions.shape) * frame.topology.pbc
    drift = rng.uniform(-cells, cells, 3)
    other = _moved(there, there.positions + (turns + drift) @ frame.cell)
    here, again = loads.at(there), loads.at(other)
    rounding = EXACT * (1.0 + cells)
    assert again.energy == pytest.approx(here.energy, abs=rounding)
    np.testing.assert_allclose(again.virial, here.virial, atol=rounding)


@given(frames(), rngs)
def test_a_cell_strained_with_its_atoms_costs_nothing(
    frame: Frame, rng: np.random.Generator
) -> None:
    loads = _loads(frame, rng)
    deform = np.eye(3) + 0.1 * rng.normal(size=(3, 3))
    loaded = loads.at(_moved(frame, frame.positions @ deform, frame.cell @ deform))
    assert loaded.energy == pytest.approx(0.0, abs=EXACT)
    np.testing.assert_allclose(loaded.virial, 0.0, atol=EXACT)


def _turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation, or one with an inversion."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


@given(frames(), rngs)
def test_loads_turn_with_everything_else(frame: Frame, rng: np.random.Generator) -> None:
    loads, there, turn = _loads(frame, rng), _close(frame, rng), _turn(rng)
    here = loads.at(there)
    turned = loads.at(_moved(there, there.positions @ turn, there.cell @ turn))
    assert turned.energy == pytest.approx(here.energy, abs=EXACT)
    np.testing.assert_allclose(turned.forces, here.forces @ turn, atol=EXACT)
    np.testing.assert_allclose(turned.virial, turn.T @ here.virial @ turn, atol=EXACT)


STRAINS = {
    "upper-triangular": np.triu,
    "symmetric": lambda strain: 0.5 * (strain + strain.T),
    "general": lambda strain: strain,
    "rotation": lambda strain: 0.5 * (strain - strain.T),
}


@pytest.mark.parametrize("kind", STRAINS)
@given(frames(), rngs)
def test_the_virial_is_right_for_every_strain_of_a_strained_and_turned_cell(
    kind: str, frame: Frame, rng: np.random.Generator
) -> None:
    loads, there = _loads(frame, rng), _close(frame, rng)
    deform = (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3))) @ _turn(rng)
    there = _moved(there, there.positions @ deform, there.cell @ deform)
    strain = STRAINS[kind](1e-3 * rng.normal(size=(3, 3)))

    def energy(times: float) -> float:
        deform = np.eye(3) + times * strain
        return loads.at(_moved(there, there.positions @ deform, there.cell @ deform)).energy

    near, far = energy(1.0) - energy(-1.0), energy(2.0) - energy(-2.0)
    wanted = -(8.0 * near - far) / 12.0
    found = float(np.vdot(loads.at(there).virial, strain))
    assert found == pytest.approx(wanted, abs=1e-8)


def test_along_axes_without_periods_atoms_part_as_far_as_they_like() -> None:
    frame = frame_of(np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.eye(3) * 4.0, (True, True, False))
    pulled = np.array([[-0.5, 0, -1.0], [0.5, 0, 1.0]])
    loads = DeadLoads.between(frame, np.zeros((2, 3)), pulled)
    there = _moved(frame, frame.positions + np.array([[0.0, 0, 0], [0.3, 0, 11.0]]))
    assert loads.at(there).energy == pytest.approx(-0.5 * 0.3 - 11.0)


def test_no_loads_are_nothing() -> None:
    frame = silicon(1)
    loads = DeadLoads.between(frame, np.ones((8, 3)), np.ones((8, 3)))
    assert not len(loads.atoms)
    assert loads.largest == 0.0
    assert loads.at(frame).energy == 0.0
    assert not loads.at(frame).virial.any()


def test_a_net_force_is_shared_among_the_loaded() -> None:
    frame, want = silicon(1), np.zeros((8, 3))
    want[2], want[5] = [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]
    loads = DeadLoads.between(frame, np.zeros((8, 3)), want)
    np.testing.assert_array_equal(loads.atoms, [2, 5])
    np.testing.assert_allclose(loads.forces, [[0.5, -1.0, 0.0], [-0.5, 1.0, 0.0]])
    assert loads.largest == pytest.approx(np.sqrt(1.25))


def _answer(mixer: Mixer, frame: Frame, region: Region) -> MixedResult:
    return mix(mixer, frame, region, CHEAP, EXPENSIVE)


def _energy_mixer(frame: Frame, loads: DeadLoads | None = None) -> EnergyMixer:
    zeros = np.full(len(frame), 0.2)
    return EnergyMixer(expensive=REACH, cheap=REACH, offsets=zeros, loads=loads, energies=False)


def _loaded(frame: Frame, region: Region) -> EnergyMixer:
    have = _answer(_energy_mixer(frame), frame, region)
    want = _answer(ForceMixer(model=REACH), frame, region)
    return _energy_mixer(frame, DeadLoads.between(frame, have.forces, want.forces))


@pytest.mark.parametrize("cells", [3, 5])
def test_at_the_reference_forces_are_the_force_mixed_ones(cells: int) -> None:
    frame = silicon(cells)
    region_model = ShellRegion(AtomSeeds([0]), core_radius=2.6, blend_width=2.5)
    region = divide(region_model, frame)
    bare, forces = _answer(_energy_mixer(frame), frame, region), ForceMixer(model=REACH)
    wanted = _answer(forces, frame, region)
    ghosts = np.abs(bare.forces - wanted.forces).max()
    assert ghosts > 5e-3
    mixed = _answer(_loaded(frame, region), frame, region)
    np.testing.assert_allclose(mixed.forces, wanted.forces, atol=AT_REFERENCE, rtol=0)
    np.testing.assert_allclose(mixed.forces.sum(axis=0), 0.0, atol=AT_REFERENCE)
    assert mixed.energy == bare.energy
    np.testing.assert_allclose(mixed.virial, bare.virial, atol=EXACT)


@given(rngs)
@settings(max_examples=5)
def test_mixed_with_loads_is_still_one_potential_energy(rng: np.random.Generator) -> None:
    reference = silicon(3)
    region = divide(ShellRegion(AtomSeeds([7]), core_radius=2.6, blend_width=2.5), reference)
    mixer = _loaded(reference, region)
    there = _moved(reference, reference.positions + rng.normal(0.0, 0.1, (len(reference), 3)))

    def energy(change: np.ndarray, deform: np.ndarray) -> float:
        positions, cell = (there.positions + change) @ deform, there.cell @ deform
        return _answer(mixer, _moved(there, positions, cell), region).energy

    mixed = _answer(mixer, there, region)
    change = 1e-5 * rng.normal(size=there.positions.shape)
    slope = energy(change, np.eye(3)) - energy(-change, np.eye(3))
    assert np.vdot(mixed.forces, change) == pytest.approx(-slope / 2.0, abs=1e-11, rel=1e-6)
    strain = 1e-5 * rng.normal(size=(3, 3))
    still = np.zeros(there.positions.shape)
    slope = energy(still, np.eye(3) + strain) - energy(still, np.eye(3) - strain)
    assert np.vdot(mixed.virial, strain) == pytest.approx(-slope / 2.0, abs=1e-11, rel=1e-6)


@pytest.mark.parametrize(
    ("forces", "places", "cell", "words"),
    [
        (np.zeros((3, 3)), np.zeros((2, 3)), np.eye(3), "as many forces and places"),
        (np.zeros((2, 3)), np.zeros((2, 2)), np.eye(3), "as many forces and places"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), np.eye(3), "finite"),
        (np.zeros((2, 3)), np.full((2, 3), np.inf), np.eye(3), "finite"),
        (np.ones((2, 3)), np.zeros((2, 3)), np.eye(3), "add up to zero"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.ones((3, 3)), "with a volume"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.full((3, 3), np.nan), "with a volume"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.eye(2), "with a volume"),
    ],
)
def test_nonsense_is_refused(
    forces: np.ndarray, places: np.ndarray, cell: np.ndarray, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        DeadLoads(np.arange(2), forces, places, cell)
