"""Dividing core and blend atoms into jobs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cells import frame_of, frames, silicon
from hypothesis import given
from hypothesis import strategies as st
from manybody import ManyBody
from mixing_routes import mix
from tolerance import EXACT

from mixserver.core.arrays import Indices
from mixserver.core.frame import Frame
from mixserver.mixing import ForceMixer, ModelCapabilities
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.partition import JobSizes, divide
from mixserver.region import Region

CHEAP, EXPENSIVE = ManyBody(2.8, 0.7), ManyBody(2.8)
FIELD = ModelCapabilities(EXPENSIVE.receptive_field, weights=True, energies=True)


@st.composite
def sizes(draw: st.DrawFn) -> JobSizes:
    """Any that make sense."""
    most = draw(st.one_of(st.just(math.inf), st.integers(1, 12)))
    return JobSizes(draw(st.integers(0, int(min(most, 12)))), most)


@given(frames(atoms=40), sizes(), st.integers(0, 2**32 - 1))
def test_each_atom_is_in_one_group_and_none_is_too_large(
    frame: Frame, size: JobSizes, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, len(frame))
    groups = [np.flatnonzero(label == one) for one in range(4) if (label == one).any()]
    parts = divide(frame, groups, size)
    everything = np.concatenate([*groups, np.empty(0, np.intp)])
    found = np.concatenate([*parts, np.empty(0, np.intp)])
    np.testing.assert_array_equal(np.sort(found), np.sort(everything))
    assert all((np.diff(part) > 0).all() and len(part) for part in parts)
    assert all(len(part) <= size.most for part in parts)
    small = [part for part in parts if len(part) < size.least]
    assert len(small) <= 1 or math.isfinite(size.most)
    assert len(parts) <= len(divide(frame, groups, JobSizes(most=size.most)))
    again = divide(frame, groups, size)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


@given(st.integers(1, 200), st.integers(1, 50))
def test_parts_are_as_few_and_as_equal_as_can_be(count: int, most: int) -> None:
    frame = frame_of(np.random.default_rng(count).uniform(0, 20, (count, 3)), 20.0 * np.eye(3))
    parts = divide(frame, [np.arange(count)], JobSizes(most=most))
    assert len(parts) == math.ceil(count / most)
    lengths = [len(part) for part in parts]
    assert max(lengths) <= most
    assert min(lengths) >= count // len(parts) - math.ceil(math.log2(len(parts) + 1))


@pytest.mark.parametrize("shift", [0.0, 37.0, -81.0])
def test_a_line_is_cut_across_wherever_the_cell_begins(shift: float) -> None:
    along = np.linspace(10.0, 70.0, 61) + shift
    places = np.stack([along, np.full(61, 3.0), np.full(61, 29.9)], axis=1)
    frame = frame_of(places, np.diag([100.0, 30.0, 30.0]))
    first, second = divide(frame, [np.arange(61)], JobSizes(most=31))
    np.testing.assert_array_equal(first, np.arange(30))
    np.testing.assert_array_equal(second, np.arange(30, 61))


def test_atoms_that_vibrate_about_a_cut_stay_where_fixed_places_put_them() -> None:
    crystal = silicon(3, rattle=0.0)
    atoms = np.arange(len(crystal))

    def parts(seed: int, fixed: bool) -> list[Indices]:
        moved = crystal.positions + np.random.default_rng(seed).normal(0, 0.1, (len(crystal), 3))
        frame = frame_of(moved, crystal.cell)
        return divide(frame, [atoms], JobSizes(most=60), crystal.fractional if fixed else None)

    first, *others = (parts(seed, fixed=True) for seed in range(4))
    for other in others:
        assert all((a == b).all() for a, b in zip(first, other, strict=True))
    assert any((a != b).any() for a, b in zip(parts(0, fixed=False), first, strict=True))


@pytest.mark.parametrize("size", [JobSizes(most=7), JobSizes(least=100), JobSizes(9, 12)])
@pytest.mark.parametrize("weights", [True, False], ids=["weights", "no weights"])
def test_forces_do_not_depend_on_how_clusters_are_divided(size: JobSizes, weights: bool) -> None:
    frame = silicon(7)
    centre = int(np.argmin(((frame.positions - frame.cell.sum(axis=0) / 2) ** 2).sum(axis=1)))
    region = _region(frame, [0, centre], core=2.6, blend=2.0)
    model = ModelCapabilities(EXPENSIVE.receptive_field, weights)
    plain, divided = ForceMixer(model=model), ForceMixer(model=model, sizes=size)
    wanted = mix(plain, frame, region, CHEAP, EXPENSIVE)
    found = mix(divided, frame, region, CHEAP, EXPENSIVE)
    assert found.diagnostics.clusters != wanted.diagnostics.clusters
    np.testing.assert_allclose(found.forces, wanted.forces, atol=EXACT)
    assert found.diagnostics.core == wanted.diagnostics.core
    assert found.diagnostics.buffer == wanted.diagnostics.buffer


@pytest.mark.parametrize("size", [JobSizes(most=100), JobSizes(most=7)])
def test_everything_expensive_divided_is_the_expensive_model(size: JobSizes) -> None:
    frame = silicon(3)
    region = Region(np.ones(len(frame)), np.empty(0, np.intp))
    mixer = EnergyMixer(expensive=FIELD, cheap=FIELD, offsets=np.zeros(len(frame)), sizes=size)
    assert len(mixer.plan(frame, region).clusters) == math.ceil(len(frame) / size.most)
    mixed = mix(mixer, frame, region, CHEAP, EXPENSIVE)
    by_force = ForceMixer(model=FIELD, sizes=size)  # whose energy and virial are those of one job
    whole = mix(by_force, frame, region, CHEAP, EXPENSIVE)
    assert mixed.energy == pytest.approx(whole.energy, abs=EXACT)
    np.testing.assert_allclose(mixed.forces, whole.forces, atol=EXACT)
    np.testing.assert_allclose(mixed.virial, whole.virial, atol=EXACT)


def _region(frame: Frame, seeds: list[int], *, core: float, blend: float) -> Region:
    away = np.full(len(frame), np.inf)
    for seed in seeds:
        fractions = frame.fractional - frame.fractional[seed]
        vectors = (fractions - np.rint(fractions)) @ frame.cell
        away = np.minimum(away, np.linalg.norm(vectors, axis=1))
    return Region(np.clip((core + blend - away) / blend, 0.0, 1.0), np.array(seeds))
