"""The laws of force mixing, with real many-body models on real clusters."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from cells import frame_of, silicon
from hypothesis import given, settings
from hypothesis import strategies as st
from manybody import ManyBody
from mixing_routes import evaluate_plan, mix, shells
from region_models import divide
from tolerance import EXACT, SAME

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.mixing import ForceMixer, MixedResult, ModelCapabilities
from mixserver.mixing.force import ZeroNet
from mixserver.mixing.jobs import WHOLE, JobKey, whole_system_job
from mixserver.region import AtomSeeds, Region, ShellRegion

CHEAP = ManyBody(cutoff=2.8, strength=0.7)
EXPENSIVE = ManyBody(cutoff=2.8)
REACH = ModelCapabilities(EXPENSIVE.receptive_field, weights=True, name="two-layers")


def _answer(
    mixer: ForceMixer,
    frame: Frame,
    region: Region,
    cheap: ManyBody = CHEAP,
    expensive: ManyBody = EXPENSIVE,
) -> MixedResult:
    return mix(mixer, frame, region, cheap, expensive)


def _centre(frame: Frame) -> int:
    return int(np.argmin(((frame.wrapped - frame.cell.sum(axis=0) / 2) ** 2).sum(axis=1)))


def _region(frame: Frame, seeds: list[int], core: float = 3.0, blend: float = 3.0) -> Region:
    return divide(ShellRegion(AtomSeeds(seeds), core_radius=core, blend_width=blend), frame)


def _whole(frame: Frame, region: Region) -> np.ndarray:
    """Mixed forces from both models on the whole system, uncorrected."""
    share = region.lambda_[:, None]
    ask = whole_system_job(frame)
    forces: np.ndarray = share * EXPENSIVE(ask).forces + (1.0 - share) * CHEAP(ask).forces
    return forces


@given(st.integers(0, 2**32 - 1), st.sampled_from(["blended", "all", "off"]))
@settings(max_examples=20)
def test_identical_models_give_the_cheap_forces_for_any_region(seed: int, kind: ZeroNet) -> None:
    rng = np.random.default_rng(seed)
    frame = silicon(3, seed=seed % 1000)
    expensive = np.where(rng.random(len(frame)) < rng.random() ** 3, rng.random(len(frame)), 0.0)
    expensive[rng.random(len(frame)) < 0.02] = 1.0
    region = Region(expensive, np.empty(0, dtype=np.intp))
    mixer = ForceMixer(model=REACH, zero_net=kind)
    mixed = _answer(mixer, frame, region, EXPENSIVE, EXPENSIVE)
    np.testing.assert_allclose(mixed.forces, EXPENSIVE(whole_system_job(frame)).forces, atol=EXACT)
    blend = region.blend > 0
    assert (
        mixed.diagnostics.mismatch_max is not None
    ) == blend  # nothing is measured where there is none
    assert not blend or mixed.diagnostics.mismatch_max < EXACT
    assert (mixed.diagnostics.gap_max, mixed.diagnostics.pull_max) == (None, None)
    np.testing.assert_allclose(mixed.diagnostics.net_force, 0.0, atol=EXACT)


@pytest.mark.parametrize("weights", [True, False], ids=["weights", "no weights"])
def test_exact_buffers_give_forces_that_do_not_depend_on_carving(weights: bool) -> None:
    frame = silicon(7)
    region = _region(frame, [_centre(frame)], core=2.6, blend=2.0)
    mixer = ForceMixer(model=ModelCapabilities(REACH.receptive_field, weights), zero_net="off")
    (cluster,) = mixer.plan(frame, region).clusters
    assert len(cluster.atoms) < len(frame) / 2
    mixed = _answer(mixer, frame, region)
    np.testing.assert_allclose(mixed.forces, _whole(frame, region), atol=EXACT)
    question = dict(mixer.plan(frame, region))[JobKey("expensive", 0)]
    assert (question.weight is not None) is weights


def test_two_regions_are_two_clusters_and_still_exact() -> None:
    frame = silicon(7)
    region = _region(frame, [0, _centre(frame)], core=2.6, blend=2.0)
    mixer = ForceMixer(model=REACH, zero_net="off")
    assert len(mixer.plan(frame, region).clusters) == 2
    np.testing.assert_allclose(
        _answer(mixer, frame, region).forces, _whole(frame, region), atol=EXACT
    )


def test_thinner_than_exact_is_wrong_and_wider_is_less_so() -> None:
    frame = silicon(7)
    region = _region(frame, [_centre(frame)], core=2.6, blend=2.0)
    right, errors = _whole(frame, region), []
    for width in (0.0, 2.5, 3.5, 5.6):
        mixer = ForceMixer(
            model=REACH, buffer_width=width, halo_width=width, allow_thin=True, zero_net="off"
        )
        wrong = _answer(mixer, frame, region).forces - right
        errors.append(np.sqrt((wrong[region.active] ** 2).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1e-2
    assert errors[-2] > 1e-8
    assert errors[-1] < EXACT


@pytest.mark.parametrize("kind", ["blended", "all", "off"])
def test_everything_expensive_is_the_expensive_model_bit_for_bit(kind: ZeroNet) -> None:
    frame = silicon(2)
    region = Region(np.ones(len(frame)), np.arange(len(frame)))
    mixer = ForceMixer(model=REACH, zero_net=kind)
    assert WHOLE not in dict(mixer.plan(frame, region))
    mixed, alone = _answer(mixer, frame, region), EXPENSIVE(whole_system_job(frame))
    np.testing.assert_allclose(mixed.forces, alone.forces, atol=SAME, rtol=0)
    np.testing.assert_allclose(mixed.virial, alone.virial, atol=SAME, rtol=0)
    assert mixed.energy == alone.energy
    assert mixed.diagnostics.energy_is == "expensive"
    assert shells(mixed) == (len(frame), 0, 0, 0)


@pytest.mark.parametrize("kind", ["blended", "all", "off"])
def test_nothing_expensive_is_the_cheap_model_bit_for_bit(kind: ZeroNet) -> None:
    frame = silicon(2)
    region = Region(np.zeros(len(frame)), np.empty(0, dtype=np.intp))
    mixer = ForceMixer(model=REACH, zero_net=kind)
    mixed, alone = _answer(mixer, frame, region), CHEAP(whole_system_job(frame))
    np.testing.assert_allclose(mixed.forces, alone.forces, atol=SAME, rtol=0)
    assert (mixed.energy, mixed.diagnostics.energy_is) == (alone.energy, "cheap")
    assert shells(mixed) == (0, 0, 0, 0)


def test_numbers_of_the_report() -> None:
    frame = silicon(6)
    region = _region(frame, [_centre(frame)], core=2.6, blend=2.0)
    mixer = ForceMixer(model=REACH)
    mixed = _answer(mixer, frame, region)
    ask = whole_system_job(frame)
    change = EXPENSIVE(ask).forces - CHEAP(ask).forces
    sizes = np.linalg.norm(change, axis=1)
    blended = (region.lambda_ > 0.0) & (region.lambda_ < 1.0)
    assert mixed.diagnostics.mismatch_max == pytest.approx(sizes[blended].max())
    assert mixed.diagnostics.mismatch_rms == pytest.approx(np.sqrt((sizes[blended] ** 2).mean()))
    core = region.lambda_ == 1.0
    assert mixed.diagnostics.core_mismatch_max == pytest.approx(sizes[core].max())
    assert mixed.diagnostics.core_mismatch_rms == pytest.approx(np.sqrt((sizes[core] ** 2).mean()))
    net = np.linalg.norm(region.lambda_ @ change)
    assert mixed.diagnostics.net_force == pytest.approx(net, abs=EXACT)
    np.testing.assert_allclose(mixed.forces.sum(axis=0), 0.0, atol=EXACT)
    (cluster,) = mixer.plan(frame, region).clusters
    sent = sum(shells(mixed))
    assert sent == len(cluster.atoms)
    assert mixed.energy == pytest.approx(CHEAP(ask).energy)


def test_an_atom_in_two_halos_is_counted_once() -> None:
    frame = silicon(6)
    wide = ForceMixer(model=REACH, halo_width=14.0)
    region = _region(frame, [0, _centre(frame)], core=1.0, blend=0.0)
    assert len(wide.plan(frame, region).clusters) == 2
    mixed = _answer(wide, frame, region)
    assert sum(shells(mixed)) == len(frame)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_moving_rotating_and_renumbering_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame, atom = silicon(5), int(rng.integers(1000))
    region = _region(frame, [atom], core=2.6, blend=2.0)
    here = _answer(ForceMixer(model=REACH), frame, region).forces
    order = rng.permutation(len(frame))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turns = rng.integers(-2, 3, frame.positions.shape)
    there = frame.positions + rng.uniform(-20.0, 20.0, 3) + turns @ frame.cell
    other = frame_of(there[order] @ rotation, frame.cell @ rotation)
    moved = _region(other, [int(np.flatnonzero(order == atom)[0])], core=2.6, blend=2.0)
    again = _answer(ForceMixer(model=REACH), other, moved).forces
    np.testing.assert_allclose(again, here[order] @ rotation, atol=1e-8)


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=15)
def test_what_was_carved_before_never_shows(seed: int, narrow: bool) -> None:
    """The same mixer over a trajectory carves what a fresh one does."""
    rng = np.random.default_rng(seed)
    frame = silicon(7 if narrow else 5, seed=seed)
    used = ForceMixer(model=REACH)
    atom = int(rng.integers(len(frame)))
    for _ in range(4):
        frame = frame_of(frame.positions + rng.normal(0.0, 0.15, (len(frame), 3)), frame.cell)
        region = _region(frame, [atom, 3], core=2.6, blend=2.0)
        pairs = zip(
            used.plan(frame, region).clusters,
            ForceMixer(model=REACH).plan(frame, region).clusters,
            strict=True,
        )
        for one, fresh in pairs:
            np.testing.assert_array_equal(one.atoms, fresh.atoms)
            np.testing.assert_array_equal(one.sites, fresh.sites)
            np.testing.assert_array_equal(one.keep, fresh.keep)


def test_jobs_of_a_bead_have_their_own_streams() -> None:
    frame = silicon(7)
    mixer = ForceMixer(model=REACH)
    region = _region(frame, [0, _centre(frame)], core=2.6, blend=2.0)
    jobs = [job for _, job in mixer.plan(frame, region)]
    other = frame_of(frame.positions, frame.cell, bead=1)
    jobs += [job for _, job in mixer.plan(other, region)]
    assert len({job.stream for job in jobs}) == 6


def test_a_missing_answer_is_an_error() -> None:
    frame = silicon(2)
    mixer = ForceMixer(model=REACH)
    region = _region(frame, [0])
    plan = mixer.plan(frame, region)
    results = evaluate_plan(plan, CHEAP, EXPENSIVE)
    whole = results.pop(WHOLE)
    with pytest.raises(ValueError, match="cheap result is missing"):
        mixer.combine(plan, results)
    with pytest.raises(ValueError, match="expensive"):
        mixer.combine(plan, {WHOLE: whole})


def test_the_criterion_travels_with_the_cheap_question() -> None:
    frame = silicon(1)
    for core in (0.0, 20.0):
        region = _region(frame, [0], core=core, blend=0.0)
        plan = ForceMixer(model=REACH).plan(frame, region, criterion="pe/atom")
        assert dict(plan)[WHOLE].criterion == "pe/atom"


@pytest.mark.parametrize("key", ["buffer_width", "halo_width"])
def test_thin_shells_must_be_allowed_in_words(key: Literal["buffer_width", "halo_width"]) -> None:
    widths: dict[str, float] = {key: 5.0}
    with pytest.raises(ConfigError, match=rf"{key} = 5.0 Å is thinner .* 'two-layers' \(5.6 Å\)"):
        ForceMixer(model=REACH, **widths)  # type: ignore[arg-type]
    thin = ForceMixer(model=REACH, allow_thin=True, **widths)  # type: ignore[arg-type]
    assert getattr(thin.carver, key) == 5.0
    wide: dict[str, float] = {key: 6.0}
    assert getattr(ForceMixer(model=REACH, **wide).carver, key) == 6.0  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [None, float("inf")])
def test_an_unknown_reach_needs_widths(field: float | None) -> None:
    with pytest.raises(ConfigError, match=r"models\.expensive\.receptive_field"):
        ForceMixer(model=ModelCapabilities(field))
    mixer = ForceMixer(model=ModelCapabilities(field), buffer_width=5.0, halo_width=7.0)
    assert (mixer.carver.buffer_width, mixer.carver.halo_width) == (5.0, 7.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero_net"):
        ForceMixer(model=REACH, zero_net="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 Å or more"):
        ForceMixer(model=REACH, buffer_width=-1.0, allow_thin=True)
