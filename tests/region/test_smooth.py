"""Lambda that follows its seeds, and what it pulls on."""

from __future__ import annotations

import numpy as np
import pytest
from cells import frame_of, frames, images, silicon
from hypothesis import assume, given
from hypothesis import strategies as st
from region_models import divide
from tolerance import EXACT, FINITE_DIFFERENCE

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.region import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Region,
    ShellRegion,
    SlabSeeds,
    SmoothRegion,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.region.profiles import PROFILES
from mixserver.region.region import GradLambdaForces

SHARE = 1e-9
"""Rounding of lambda: distances to 1e-10 Å over a blend of 0.5 Å or more."""
STEP = 1e-5
"""Å, of finite differences."""

cores = st.one_of(st.just(0.0), st.floats(0.1, 2.5))
blends = st.floats(1.0, 3.5)
smooth = st.sampled_from(["cubic", "quintic"])
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _brute(frame: Frame, seeds: np.ndarray, core: float, blend: float, profile: str) -> np.ndarray:
    shifted = (frame.positions[seeds][:, None] + images(frame, core + blend)).reshape(-1, 3)
    share = np.empty(len(frame))
    for i, position in enumerate(frame.positions):
        distance = np.sqrt(((shifted - position) ** 2).sum(-1))
        depth = np.clip((distance - core) / blend, 0.0, 1.0)
        share[i] = 1.0 - np.prod(1.0 - PROFILES[profile].value(depth))
    share[seeds] = 1.0
    return share


def _back(region: Region, gap: np.ndarray) -> GradLambdaForces:
    """The pull of gaps given for all atoms."""
    assert region.gradient is not None
    return region.gradient.forces(gap[region.active])


def _pulled(region: Region, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pulled = _back(region, gap)
    assert (np.diff(pulled.atoms) > 0).all()
    forces = np.zeros((len(region.lambda_), 3))
    forces[pulled.atoms] = pulled.forces
    return forces, pulled.virial


def _moved(frame: Frame, positions: np.ndarray, cell: np.ndarray | None = None) -> Frame:
    return frame_of(positions, frame.cell if cell is None else cell, frame.topology.pbc)


@given(frames(atoms=16), st.integers(1, 8), cores, blends, smooth)
def test_lambda_is_brute_force_over_all_seeds_and_images(
    frame: Frame, share: int, core: float, blend: float, profile: str
) -> None:
    seeds = np.arange(0, len(frame), share)
    region = divide(
        SmoothRegion(AtomSeeds(seeds), core_radius=core, blend_width=blend, profile=profile), frame
    )
    wanted = _brute(frame, seeds, core, blend, profile)
    np.testing.assert_allclose(region.lambda_, wanted, atol=SHARE)
    np.testing.assert_array_equal(region.seeds, seeds)


@given(frames(atoms=4, smallest=0.9), st.floats(0.5, 1.5), st.floats(3.0, 6.0))
def test_cells_smaller_than_the_region_count_every_image(
    frame: Frame, core: float, blend: float
) -> None:
    region = divide(SmoothRegion(AtomSeeds([0]), core_radius=core, blend_width=blend), frame)
    wanted = _brute(frame, np.array([0]), core, blend, "quintic")
    np.testing.assert_allclose(region.lambda_, wanted, atol=SHARE)


@given(frames(atoms=10), st.integers(2, 6), cores, blends, rngs)
def test_the_pull_is_minus_the_gradient(
    frame: Frame, share: int, core: float, blend: float, rng: np.random.Generator
) -> None:
    seeds = np.arange(0, len(frame), share)
    region_model = SmoothRegion(AtomSeeds(seeds), core_radius=core, blend_width=blend)
    region = divide(region_model, frame)
    assume(region.blend)
    gap = rng.normal(size=len(frame))
    forces, virial = _pulled(region, gap)

    def energy(positions: np.ndarray, cell: np.ndarray) -> float:
        return float(gap @ divide(region_model, _moved(frame, positions, cell)).lambda_)

    def slope(change: np.ndarray, strain: np.ndarray) -> float:
        there, back = (
            energy(
                frame.positions @ (np.eye(3) + sign * strain) + sign * change,
                frame.cell @ (np.eye(3) + sign * strain),
            )
            for sign in (1.0, -1.0)
        )
        return (there - back) / (2.0 * STEP)

    still = np.zeros((3, 3))
    scale = max(1.0, np.abs(forces).max())
    for atom in range(len(frame)):
        for axis in range(3):
            change = np.zeros(frame.positions.shape)
            change[atom, axis] = STEP
            wanted = -slope(change, still)
            assert forces[atom, axis] == pytest.approx(wanted, abs=FINITE_DIFFERENCE * scale)
    scale = max(1.0, np.abs(virial).max())
    unmoved = np.zeros(frame.positions.shape)
    for one in range(3):
        for other in range(one, 3):
            strain = np.zeros((3, 3))
            strain[one, other] += 0.5 * STEP
            strain[other, one] += 0.5 * STEP
            wanted = -slope(unmoved, strain)
            assert virial[one, other] == pytest.approx(wanted, abs=FINITE_DIFFERENCE * scale)
    np.testing.assert_array_equal(virial, virial.T)


@pytest.mark.parametrize("profile", ["cubic", "quintic"])
@pytest.mark.parametrize("seeds", [[3], [3, 40, 77]])
def test_the_pull_in_a_crystal(profile: str, seeds: list[int]) -> None:
    frame = silicon(3)
    region_model = SmoothRegion(AtomSeeds(seeds), core_radius=3.0, blend_width=3.5, profile=profile)
    region = divide(region_model, frame)
    assert region.blend > 20
    rng = np.random.default_rng(5)
    gap = rng.normal(size=len(frame))
    forces, _ = _pulled(region, gap)
    for _ in range(20):
        change = rng.normal(size=frame.positions.shape)
        there, back = (
            gap @ divide(region_model, _moved(frame, frame.positions + s * STEP * change)).lambda_
            for s in (1.0, -1.0)
        )
        wanted = -(there - back) / (2.0 * STEP)
        assert (forces * change).sum() == pytest.approx(wanted, rel=FINITE_DIFFERENCE)


@given(frames(), st.integers(1, 6), cores, blends, rngs)
def test_moving_or_rotating_everything_makes_no_force(
    frame: Frame, share: int, core: float, blend: float, rng: np.random.Generator
) -> None:
    seeds = np.arange(0, len(frame), share)
    region_model = SmoothRegion(AtomSeeds(seeds), core_radius=core, blend_width=blend)
    gap = rng.normal(size=len(frame))
    region = divide(region_model, frame)
    forces, virial = _pulled(region, gap)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=EXACT)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turns = rng.integers(-3, 4, frame.positions.shape) * frame.topology.pbc
    for turn, place, cell in (
        (np.eye(3), frame.positions + rng.uniform(-20.0, 20.0, 3), frame.cell),
        (np.eye(3), frame.positions + turns @ frame.cell, frame.cell),
        (rotation, frame.positions @ rotation, frame.cell @ rotation),
    ):
        other = divide(region_model, _moved(frame, place, cell))
        np.testing.assert_allclose(other.lambda_, region.lambda_, atol=1e-8)
        there, there_virial = _pulled(other, gap)
        np.testing.assert_allclose(there, forces @ turn, atol=1e-7)
        np.testing.assert_allclose(there_virial, turn.T @ virial @ turn, atol=1e-6)


@given(frames(smallest=9.0), st.floats(0.0, 2.0), st.floats(0.5, 2.0), smooth)
def test_one_seed_gives_the_lambda_of_the_selector(
    frame: Frame, core: float, blend: float, profile: str
) -> None:
    settings = {"core_radius": core, "blend_width": blend, "profile": profile}
    height = 1.0 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
    # no atom may have two images of the seed in reach
    assume(all(2.0 * (core + blend) < h for h in height[list(frame.topology.pbc)]))
    following = divide(SmoothRegion(AtomSeeds([0]), **settings), frame)  # type: ignore[arg-type]
    nearest = divide(ShellRegion(AtomSeeds([0]), **settings), frame)  # type: ignore[arg-type]
    np.testing.assert_allclose(following.lambda_, nearest.lambda_, atol=SHARE)
    np.testing.assert_array_equal(following.lambda_ == 1.0, nearest.lambda_ == 1.0)


def _second_derivative(profile: str, step: float) -> np.ndarray:
    """Of lambda along a path through the shells of two seeds and past where they swap roles."""
    region_model = SmoothRegion(
        AtomSeeds([0, 1]), core_radius=2.0, blend_width=3.0, profile=profile
    )
    share = []
    for x in np.arange(-6.0, 14.0, step):
        atoms = np.array([[0.0, 0.0, 0.0], [7.3, 0.0, 0.0], [x, 1.1, 0.0]])
        share.append(divide(region_model, frame_of(atoms, np.eye(3) * 60.0)).lambda_[2])
    return np.diff(share, 2) / step**2


def test_lambda_has_two_continuous_derivatives_with_the_quintic_and_one_with_the_cubic() -> None:
    jump = {
        (profile, step): np.abs(np.diff(_second_derivative(profile, step))).max()
        for profile in ("cubic", "quintic")
        for step in (0.02, 0.005)
    }
    assert jump["quintic", 0.005] < 0.3 * jump["quintic", 0.02]  # a slope: a quarter
    assert jump["cubic", 0.005] > 0.9 * jump["cubic", 0.02]  # a step: it stays


def test_the_core_is_exact_and_flat() -> None:
    frame = silicon(3)
    region_model = SmoothRegion(AtomSeeds([0, 9]), core_radius=5.0, blend_width=2.0)
    region = divide(region_model, frame)
    near = divide(ShellRegion(AtomSeeds([0, 9]), core_radius=5.0, blend_width=0.0), frame)
    np.testing.assert_array_equal(region.lambda_ == 1.0, near.lambda_ == 1.0)
    gap = np.where(region.lambda_ == 1.0, 1.0, 0.0)  # only core atoms differ in energy
    forces, virial = _pulled(region, gap)
    assert not forces.any()
    assert not virial.any()


@pytest.mark.parametrize("depth", [1e-300, 1e-17, 1e-12, 1e-7, 1e-4])
def test_atoms_on_the_very_edge_of_several_cores_have_finite_small_forces(depth: float) -> None:
    atoms = np.array([[0.0, 0, 0], [2.0, 0, 0], [1.0 + depth, 0, 0], [1.0, depth, 0]])
    frame = frame_of(atoms, np.eye(3) * 30.0)
    region = divide(SmoothRegion(AtomSeeds([0, 1]), core_radius=1.0, blend_width=1.0), frame)
    forces, virial = _pulled(region, np.ones(4))
    assert np.isfinite(virial).all()
    assert np.abs(forces).max() <= 100.0 * max(depth, 1e-15)


def test_without_seeds_nothing_is_expensive() -> None:
    frame = silicon(1)
    seeds = SpeciesSeeds(frame.topology.numbers, [2])
    region = divide(SmoothRegion(seeds, core_radius=2.0, blend_width=2.0), frame)
    assert not len(region.active)
    pulled = _back(region, np.ones(len(frame)))
    assert not len(pulled.atoms)
    assert pulled.forces.shape == (0, 3)
    assert not pulled.virial.any()


def test_gaps_of_other_atoms_are_refused() -> None:
    region = divide(SmoothRegion(AtomSeeds([0]), core_radius=2.0, blend_width=2.0), silicon(2))
    assert region.gradient is not None
    with pytest.raises(ValueError, match="active"):
        region.gradient.forces(np.ones(len(region.active) + 1))


def test_a_seed_that_is_no_atom_is_refused() -> None:
    with pytest.raises(ConfigError, match="atom 8"):
        divide(SmoothRegion(AtomSeeds([8]), core_radius=2.0, blend_width=2.0), silicon(1))


@pytest.mark.parametrize(
    "seeds",
    [
        SphereSeeds((0.0, 0.0, 0.0), 1.0),
        CylinderSeeds(0, (0.0, 0.0, 0.0), 1.0),
        SlabSeeds(0, 0.1, 0.2),
        CriterionSeeds("x"),
    ],
    ids=["sphere", "cylinder", "slab", "criterion"],
)
def test_seeds_without_a_gradient_are_refused(seeds: SphereSeeds) -> None:
    with pytest.raises(ConfigError, match=r"region\.follow = false"):
        SmoothRegion(seeds, core_radius=2.0, blend_width=2.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"core_radius": -1.0}, "core_radius"),
        ({"core_radius": float("inf")}, "core_radius"),
        ({"blend_width": 0.0}, "blend_width"),
        ({"blend_width": float("nan")}, "blend_width"),
        ({"profile": "linear"}, "forces would jump"),
        ({"profile": "step"}, "profile"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, object], words: str) -> None:
    sound = {"core_radius": 1.0, "blend_width": 1.0}
    with pytest.raises(ConfigError, match=words):
        SmoothRegion(AtomSeeds([0]), **{**sound, **settings})  # type: ignore[arg-type]
