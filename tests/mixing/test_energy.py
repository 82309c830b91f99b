"""The laws of energy mixing, with real many-body models on real clusters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from cells import brute_distances, frame_of, frames, silicon
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from manybody import ManyBody
from mixing_routes import Model, Route, evaluate_plan, mix, shells
from mixserver_worker.engines.toy import ToyEngine
from region_models import advance, divide, seen_anew
from tolerance import EXACT, FINITE_DIFFERENCE, SAME

from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.mixing import MixedResult, ModelCapabilities
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.jobs import WHOLE, whole_system_job
from mixserver.mixing.partition import JobSizes
from mixserver.region import AtomSeeds, CriterionSeeds, Region, ShellRegion, SmoothRegion
from mixserver.wire.worker import Evaluate, Result

Divide = Callable[[Frame], Region]

ROUTES: tuple[Route, ...] = ("weights", "parts")
STEP = 1e-5
"""Å, and strain. Rounding of some 100 eV leaves 1e-9 eV/Å, the third derivative as much."""
JUMP = 1e-11
"""eV, between sums of some 1000 site energies."""
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


class Toy:
    """The toy engine as a function."""

    def __init__(self, **settings: float) -> None:
        self._engine = ToyEngine(**settings)
        self.receptive_field = settings["cutoff"]

    def __call__(self, job: Evaluate) -> Result:
        answer = self._engine.evaluate(job)
        return Result(
            job=job.job,
            energy=answer.energy,
            forces=answer.forces,
            virial=answer.virial,
            energies=answer.energies,
        )


class Forgetful:
    """A model that, as it may, gives no site energy where the weight is 0 and none is wanted."""

    def __init__(self, model: ManyBody) -> None:
        self._model = model
        self.receptive_field = model.receptive_field

    def __call__(self, job: Evaluate) -> Result:
        answer = self._model(job)
        energies = answer.energies if job.energies else None
        if energies is not None and job.weight is not None:
            energies = np.where(job.sites, energies, 0.0)
        return Result(
            job=job.job,
            energy=answer.energy,
            forces=answer.forces,
            virial=answer.virial,
            energies=energies,
        )


CHEAP, EXPENSIVE = Forgetful(ManyBody(2.8, 0.7)), Forgetful(ManyBody(2.8))
NARROW_CHEAP, NARROW = Forgetful(ManyBody(1.6, 1.4)), Forgetful(ManyBody(1.3, 2.0))
"""For random atoms: narrow, so that there are clusters in small cells."""


def _mixer(
    frame: Frame,
    cheap: Forgetful | Toy = CHEAP,
    expensive: Forgetful | Toy = EXPENSIVE,
    zero: float = 0.3,
    sizes: JobSizes = JobSizes(),  # noqa: B008 - it cannot be changed
) -> EnergyMixer:
    return EnergyMixer(
        expensive=ModelCapabilities(expensive.receptive_field, weights=True, energies=True),
        cheap=ModelCapabilities(cheap.receptive_field, weights=True, energies=True, name="cheap"),
        offsets=np.full(len(frame), zero),
        sizes=sizes,
    )


def _mixed(
    mixer: EnergyMixer,
    frame: Frame,
    region: Region,
    route: Route = "weights",
    cheap: Model = CHEAP,
    expensive: Model = EXPENSIVE,
) -> MixedResult:
    return mix(mixer, frame, region, cheap, expensive, route)


def _sites(model: Model, frame: Frame) -> Scalars:
    """(N,) eV, site energies of a model that is asked about everything."""
    job = Evaluate(
        job=1,
        stream=0,
        positions=frame.positions,
        numbers=frame.topology.numbers,
        cell=frame.cell,
        pbc=frame.topology.pbc,
        energies=True,
    )
    energies = model(job).energies
    assert energies is not None
    return energies


def _some_lambda(count: int, rng: np.random.Generator) -> Scalars:
    """Core, blend and bulk atoms anywhere."""
    share = np.where(rng.random(count) < 0.4, rng.random(count), 0.0)
    share[rng.random(count) < 0.2] = 1.0
    return share


def _frozen(frame: Frame, rng: np.random.Generator) -> Divide:
    region = Region(_some_lambda(len(frame), rng), np.empty(0, dtype=np.intp))
    return lambda _: region


def _following(frame: Frame, rng: np.random.Generator) -> Divide:
    seeds = rng.choice(len(frame), rng.integers(1, min(4, len(frame)) + 1), replace=False)
    core, blend = rng.uniform(0.0, 2.0), rng.uniform(1.0, 3.0)
    return partial(divide, SmoothRegion(AtomSeeds(seeds), core_radius=core, blend_width=blend))


def _held(frame: Frame, rng: np.random.Generator) -> Divide:
    """Chosen at the frame by a criterion, and held ever after."""
    seeds = CriterionSeeds("x", low=0.5, every=10**6)
    region_model = ShellRegion(seeds, core_radius=1.0, blend_width=3.0, held=True)
    advance(region_model, seen_anew(frame), (rng.random(len(frame)) < 0.3).astype(float))
    return partial(divide, region_model)


DIVISIONS = {"frozen": _frozen, "following": _following, "held": _held}


def _moved(frame: Frame, positions: Vectors, cell: Matrix | None = None) -> Frame:
    return frame_of(positions, frame.cell if cell is None else cell, frame.topology.pbc)


def _strained(frame: Frame, strain: Matrix) -> Frame:
    deform = np.eye(3) + strain
    return _moved(frame, frame.positions @ deform, frame.cell @ deform)


def _slope(energy: Callable[[Frame], float], there: Frame, back: Frame) -> float:
    return (energy(there) - energy(back)) / (2.0 * STEP)


def _six_strains() -> list[tuple[int, int, Matrix]]:
    found = []
    for one in range(3):
        for other in range(one, 3):
            strain = np.zeros((3, 3))
            strain[one, other] += 0.5 * STEP
            strain[other, one] += 0.5 * STEP
            found.append((one, other, strain))
    return found


def _apart(frame: Frame) -> bool:
    """No two atoms touch: the direction of a tiny vector turns within a step."""
    away = brute_distances(frame, frame.positions, 1.0)
    return bool(away[~np.eye(len(frame), dtype=bool)].min(initial=1.0) > 0.1)


@given(frames(atoms=7), st.sampled_from(sorted(DIVISIONS)), st.sampled_from(ROUTES), rngs)
@settings(max_examples=30)
def test_forces_and_virial_are_derivatives_of_the_sum_over_sites(
    frame: Frame, kind: str, route: Route, rng: np.random.Generator
) -> None:
    assume(_apart(frame))
    divide = DIVISIONS[kind](frame, rng)
    zeros = rng.normal(size=len(frame))
    mixer = EnergyMixer(
        expensive=ModelCapabilities(NARROW.receptive_field, weights=True, energies=True),
        cheap=ModelCapabilities(NARROW_CHEAP.receptive_field, weights=True, energies=True),
        offsets=zeros,
    )

    def by_hand(there: Frame) -> float:
        share = divide(there).lambda_
        expensive, cheap = _sites(NARROW, there), _sites(NARROW_CHEAP, there)
        return float(share @ (expensive - zeros) + (1.0 - share) @ cheap)

    mixed = _mixed(mixer, frame, divide(frame), route, NARROW_CHEAP, NARROW)
    assert mixed.energy == pytest.approx(by_hand(frame), abs=EXACT)
    scale = max(1.0, np.abs(mixed.forces).max())
    for atom in range(len(frame)):
        for axis in range(3):
            change = np.zeros(frame.positions.shape)
            change[atom, axis] = STEP
            slope = _slope(
                by_hand,
                _moved(frame, frame.positions + change),
                _moved(frame, frame.positions - change),
            )
            assert mixed.forces[atom, axis] == pytest.approx(-slope, abs=FINITE_DIFFERENCE * scale)
    scale = max(1.0, np.abs(mixed.virial).max())
    for one, other, strain in _six_strains():
        slope = _slope(by_hand, _strained(frame, strain), _strained(frame, -strain))
        assert mixed.virial[one, other] == pytest.approx(-slope, abs=FINITE_DIFFERENCE * scale)
    np.testing.assert_allclose(mixed.virial, mixed.virial.T, atol=EXACT)


@given(
    frames(atoms=30, smallest=4.0),
    st.sampled_from(sorted(DIVISIONS)),
    rngs,
    st.sampled_from([JobSizes(), JobSizes(most=4), JobSizes(least=6), JobSizes(3, 5)]),
)
@settings(max_examples=80)
def test_carved_clusters_give_the_sum_over_sites_of_the_whole(
    frame: Frame, kind: str, rng: np.random.Generator, sizes: JobSizes
) -> None:
    region = DIVISIONS[kind](frame, rng)(frame)
    share = region.lambda_
    expensive, cheap = _sites(NARROW, frame), _sites(NARROW_CHEAP, frame)
    wanted = float(share @ (expensive - 0.3) + (1.0 - share) @ cheap)
    for route in ROUTES:
        mixer = _mixer(frame, NARROW_CHEAP, NARROW, sizes=sizes)
        mixed = _mixed(mixer, frame, region, route, NARROW_CHEAP, NARROW)
        assert mixed.energy == pytest.approx(wanted, abs=EXACT)
        plain = _mixed(
            _mixer(frame, NARROW_CHEAP, NARROW), frame, region, route, NARROW_CHEAP, NARROW
        )
        np.testing.assert_allclose(mixed.forces, plain.forces, atol=EXACT)
        np.testing.assert_allclose(mixed.virial, plain.virial, atol=EXACT)
        assert mixed.lambda_update_energy == pytest.approx(plain.lambda_update_energy, abs=EXACT)


@pytest.mark.parametrize("kind", ["frozen", "following"])
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
def test_several_clusters_in_a_crystal_are_one_energy(
    kind: str, pbc: tuple[bool, bool, bool]
) -> None:
    crystal = silicon(6)
    frame = frame_of(crystal.positions, crystal.cell, pbc)
    centre = int(np.argmin(((frame.wrapped - frame.cell.sum(axis=0) / 2) ** 2).sum(axis=1)))
    follow = SmoothRegion(AtomSeeds([0, centre]), core_radius=2.0, blend_width=2.5)
    chosen = divide(follow, frame)
    fixed = Region(chosen.lambda_, chosen.seeds)

    def division(there: Frame) -> Region:
        return divide(follow, there) if kind == "following" else fixed

    region = division(frame)
    mixer = _mixer(frame)
    clusters = mixer.plan(frame, region).clusters
    assert len(clusters) == 2
    assert all(len(cluster.atoms) < len(frame) / 2 for cluster in clusters)
    mixed = _mixed(mixer, frame, region)
    share = region.lambda_
    wanted = share @ (_sites(EXPENSIVE, frame) - 0.3) + (1.0 - share) @ _sites(CHEAP, frame)
    assert mixed.energy == pytest.approx(wanted, abs=EXACT)

    def energy(there: Frame) -> float:
        return _mixed(mixer, there, division(there)).energy

    rng = np.random.default_rng(2)
    for _ in range(3):  # along random directions: the energy is of 1728 atoms
        change = rng.normal(size=frame.positions.shape)
        slope = _slope(
            energy,
            _moved(frame, frame.positions + STEP * change),
            _moved(frame, frame.positions - STEP * change),
        )
        scale = np.linalg.norm(mixed.forces)
        assert np.vdot(mixed.forces, change) == pytest.approx(-slope, abs=1e-6 * scale)
    for one, other, strain in _six_strains()[1:5]:
        slope = _slope(energy, _strained(frame, strain), _strained(frame, -strain))
        scale = np.abs(mixed.virial).max()
        assert mixed.virial[one, other] == pytest.approx(-slope, abs=1e-6 * scale)


@pytest.mark.parametrize("route", ROUTES)
def test_a_cluster_of_nearly_all_atoms_leaves_the_sites_of_others_to_them(route: Route) -> None:
    frame = silicon(3)
    away = brute_distances(frame, frame.positions[:1], 30.0)[:, 0]
    share = np.where(away < 8.0, 0.5, 0.0)
    share[away.argmax()] = 1.0
    region = Region(share, np.empty(0, dtype=np.intp))
    mixer = _mixer(frame)
    large, small = mixer.plan(frame, region).clusters
    assert len(large.atoms) == len(frame) > 2 * len(small.atoms)
    wanted = share @ (_sites(EXPENSIVE, frame) - 0.3) + (1.0 - share) @ _sites(CHEAP, frame)
    assert _mixed(mixer, frame, region, route).energy == pytest.approx(wanted, abs=EXACT)


@pytest.mark.parametrize("kind", ["frozen", "following"])
def test_the_toy_models_mix_too(kind: str) -> None:
    frame = _moved(silicon(2), silicon(2).positions)
    cheap, expensive = Toy(epsilon=0.02, cutoff=4.0), Toy(epsilon=0.05, sigma=2.3, cutoff=5.0)
    divide = DIVISIONS[kind](frame, np.random.default_rng(4))
    mixer = _mixer(frame, cheap, expensive, zero=-0.7)

    def energy(there: Frame) -> float:
        return _mixed(mixer, there, divide(there), "weights", cheap, expensive).energy

    mixed = _mixed(mixer, frame, divide(frame), "weights", cheap, expensive)
    share = divide(frame).lambda_
    by_hand = share @ (_sites(expensive, frame) + 0.7) + (1 - share) @ _sites(cheap, frame)
    assert mixed.energy == pytest.approx(by_hand, abs=EXACT)
    for atom, axis in [(0, 0), (17, 1), (40, 2), (63, 0)]:
        change = np.zeros(frame.positions.shape)
        change[atom, axis] = STEP
        slope = _slope(
            energy, _moved(frame, frame.positions + change), _moved(frame, frame.positions - change)
        )
        assert mixed.forces[atom, axis] == pytest.approx(-slope, abs=FINITE_DIFFERENCE)


@given(rngs, st.sampled_from(ROUTES))
@settings(max_examples=20)
def test_identical_models_give_the_plain_answer_for_any_lambda(
    rng: np.random.Generator, route: Route
) -> None:
    frame = silicon(3, seed=int(rng.integers(1000)))
    region = _frozen(frame, rng)(frame)
    mixer = _mixer(frame, EXPENSIVE, EXPENSIVE)
    mixed = _mixed(mixer, frame, region, route, EXPENSIVE, EXPENSIVE)
    plain = EXPENSIVE(whole_system_job(frame))
    np.testing.assert_allclose(mixed.forces, plain.forces, atol=EXACT)
    np.testing.assert_allclose(mixed.virial, plain.virial, atol=EXACT)
    assert mixed.energy == pytest.approx(plain.energy - 0.3 * region.lambda_.sum(), abs=EXACT)


@pytest.mark.parametrize("route", ROUTES)
def test_identical_models_and_zeros_make_no_pull(route: Route) -> None:
    frame = silicon(3)
    region = _following(frame, np.random.default_rng(1))(frame)
    assert region.blend
    mixer = _mixer(frame, EXPENSIVE, EXPENSIVE, zero=0.0)
    mixed = _mixed(mixer, frame, region, route, EXPENSIVE, EXPENSIVE)
    assert mixed.diagnostics.pull_max < EXACT
    assert mixed.diagnostics.gap_max < EXACT
    np.testing.assert_allclose(mixed.forces, EXPENSIVE(whole_system_job(frame)).forces, atol=EXACT)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("follow", [True, False])
def test_nothing_expensive_is_the_cheap_model_bit_for_bit(route: Route, follow: bool) -> None:
    frame = silicon(2)
    region = Region(np.zeros(len(frame)), np.empty(0, dtype=np.intp))
    if follow:
        region_model = SmoothRegion(AtomSeeds([]), core_radius=1.0, blend_width=1.0)
        region = divide(region_model, frame)
        assert region.gradient is not None
    mixer = _mixer(frame)
    mixed, alone = _mixed(mixer, frame, region, route), CHEAP(whole_system_job(frame))
    np.testing.assert_allclose(mixed.forces, alone.forces, atol=SAME, rtol=0)
    np.testing.assert_allclose(mixed.virial, alone.virial, atol=SAME, rtol=0)
    assert (mixed.energy, mixed.diagnostics.energy_is) == (alone.energy, "mixed")
    assert shells(mixed) == (0, 0, 0, 0)


@pytest.mark.parametrize("follow", [True, False])
def test_everything_expensive_is_the_expensive_model_less_its_zeros(follow: bool) -> None:
    frame = silicon(2)
    region = Region(np.ones(len(frame)), np.arange(len(frame)))
    if follow:
        region_model = SmoothRegion(AtomSeeds([0]), core_radius=30.0, blend_width=1.0)
        region = divide(region_model, frame)
    mixer = _mixer(frame)
    assert WHOLE not in dict(mixer.plan(frame, region))
    mixed, alone = _mixed(mixer, frame, region), EXPENSIVE(whole_system_job(frame))
    np.testing.assert_allclose(mixed.forces, alone.forces, atol=SAME, rtol=0)
    np.testing.assert_allclose(mixed.virial, alone.virial, atol=SAME, rtol=0)
    assert mixed.energy == alone.energy - np.ones(len(frame)) @ np.full(len(frame), 0.3)
    assert shells(mixed) == (len(frame), 0, 0, 0)
    parts = _mixed(mixer, frame, region, "parts")
    np.testing.assert_allclose(parts.forces, mixed.forces, atol=EXACT)
    assert parts.energy == pytest.approx(mixed.energy, abs=EXACT)


@given(rngs, st.sampled_from(["frozen", "following"]))
@settings(max_examples=15)
def test_moving_wrapping_and_renumbering_change_nothing_and_momentum_stays(
    rng: np.random.Generator, kind: str
) -> None:
    frame = silicon(5)
    seeds = rng.choice(len(frame), 2, replace=False)
    follow = SmoothRegion(AtomSeeds(seeds), core_radius=2.0, blend_width=2.5)
    region = divide(follow, frame)
    here = _mixed(_mixer(frame), frame, region if kind == "following" else _still(region))
    np.testing.assert_allclose(here.forces.sum(axis=0), 0.0, atol=EXACT)
    np.testing.assert_allclose(here.diagnostics.net_force, 0.0, atol=EXACT)
    order = rng.permutation(len(frame))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turns = rng.integers(-2, 3, frame.positions.shape)
    there = frame.positions + rng.uniform(-20.0, 20.0, 3) + turns @ frame.cell
    other = frame_of(there[order] @ rotation, frame.cell @ rotation)
    renumbered = AtomSeeds(np.argsort(order)[seeds])
    follow = SmoothRegion(renumbered, core_radius=2.0, blend_width=2.5)
    moved = divide(follow, other)
    again = _mixed(_mixer(other), other, moved if kind == "following" else _still(moved))
    assert again.energy == pytest.approx(here.energy, abs=1e-7)
    np.testing.assert_allclose(again.forces, here.forces[order] @ rotation, atol=1e-7)
    np.testing.assert_allclose(again.virial, rotation.T @ here.virial @ rotation, atol=1e-6)


def _still(region: Region) -> Region:
    return Region(region.lambda_, region.seeds)


@given(frames(atoms=20, smallest=4.0), st.sampled_from(sorted(DIVISIONS)), rngs)
@settings(max_examples=40)
def test_plain_and_parts_are_the_weighted_answer(
    frame: Frame, kind: str, rng: np.random.Generator
) -> None:
    region = DIVISIONS[kind](frame, rng)(frame)
    if kind == "frozen":
        region = Region(region.lambda_, region.seeds, before=_some_lambda(len(frame), rng))
    mixer = _mixer(frame, NARROW_CHEAP, NARROW)
    one, two = (_mixed(mixer, frame, region, route, NARROW_CHEAP, NARROW) for route in ROUTES)
    scale = max(1.0, np.abs(one.forces).max())
    np.testing.assert_allclose(two.forces, one.forces, atol=EXACT * scale)
    np.testing.assert_allclose(two.virial, one.virial, atol=EXACT * scale)
    assert two.energy == pytest.approx(one.energy, abs=EXACT)
    assert two.lambda_update_energy == pytest.approx(one.lambda_update_energy, abs=EXACT)
    assert two.diagnostics.gap_max == pytest.approx(one.diagnostics.gap_max, abs=EXACT)
    assert two.diagnostics.gap_rms == pytest.approx(one.diagnostics.gap_rms, abs=EXACT)
    assert two.diagnostics.pull_max == pytest.approx(one.diagnostics.pull_max, abs=EXACT * scale)
    assert (two.diagnostics.energy_is, two.diagnostics.core, two.diagnostics.blend) == (
        one.diagnostics.energy_is,
        one.diagnostics.core,
        one.diagnostics.blend,
    )

    correction = mix(mixer, frame, region, NARROW_CHEAP, NARROW, "parts", "correction")
    plain = NARROW_CHEAP(whole_system_job(frame))
    assert not mixer.correction_needs_whole
    assert correction.diagnostics.energy_is == "correction"
    assert correction.energy == pytest.approx(two.energy - plain.energy, abs=EXACT)
    np.testing.assert_allclose(correction.forces, two.forces - plain.forces, atol=EXACT * scale)
    np.testing.assert_allclose(correction.virial, two.virial - plain.virial, atol=EXACT * scale)


@given(rngs, st.sampled_from(ROUTES))
@settings(max_examples=30)
def test_a_jump_is_the_difference_of_both_energies(rng: np.random.Generator, route: Route) -> None:
    frame = silicon(3, seed=int(rng.integers(1000)))
    before, after = (_some_lambda(len(frame), rng) for _ in range(2))
    still = rng.random(len(frame)) < 0.5
    after[still] = before[still]
    nobody = np.empty(0, dtype=np.intp)
    mixer = _mixer(frame)
    jumping = _mixed(mixer, frame, Region(after, nobody, before=before), route)
    old, new = (_mixed(_mixer(frame), frame, Region(x, nobody)) for x in (before, after))
    assert jumping.lambda_update_energy == pytest.approx(new.energy - old.energy, abs=JUMP)
    assert abs(jumping.lambda_update_energy) > 1e-3
    assert (old.lambda_update_energy, new.lambda_update_energy) == (0.0, 0.0)
    assert jumping.energy == pytest.approx(new.energy, abs=JUMP)
    np.testing.assert_allclose(jumping.forces, new.forces, atol=EXACT)
    np.testing.assert_allclose(jumping.virial, new.virial, atol=EXACT)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("old", "new"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.4), (0.4, 1.0)])
def test_all_atoms_may_jump_at_once(old: float, new: float, route: Route) -> None:
    frame, nobody = silicon(2), np.empty(0, dtype=np.intp)
    before, after = (np.full(len(frame), share) for share in (old, new))
    jumping = _mixed(_mixer(frame), frame, Region(after, nobody, before=before), route)
    energies = [
        float(s @ (_sites(EXPENSIVE, frame) - 0.3) + (1 - s) @ _sites(CHEAP, frame))
        for s in (before, after)
    ]
    assert jumping.energy == pytest.approx(energies[1], abs=JUMP)
    assert jumping.lambda_update_energy == pytest.approx(energies[1] - energies[0], abs=JUMP)


def test_the_sum_of_jumps_is_the_work_on_a_held_region() -> None:
    """Along a path with ramping lambda, E - work is what stays constant where atoms stand still."""
    frame = silicon(3)
    rng = np.random.default_rng(8)
    seeds = CriterionSeeds("x", low=0.5, every=4)
    region_model = ShellRegion(
        seeds, core_radius=2.0, blend_width=3.0, hysteresis=(2.0, 3.0), held=True, atoms=len(frame)
    )
    mixer, energies = _mixer(frame), []
    for n in range(14):
        now = Frame(frame.topology, frame.positions + 1e-13 * n, frame.cell)
        with region_model.evaluation(now) as evaluation:
            if evaluation.selects:
                here = np.arange(len(frame)) == rng.integers(len(frame))
                evaluation.record_criterion(here.astype(float))
            mixed = _mixed(mixer, now, evaluation.region(), "parts" if n % 2 else "weights")
            evaluation.commit(mixed.lambda_update_energy)
        energies.append(mixed.energy - evaluation.work)
        assert n < 5 or abs(evaluation.work) > 1e-3
    np.testing.assert_allclose(energies, energies[0], atol=1e-10)


def test_numbers_of_the_report() -> None:
    frame = silicon(6)
    region = divide(SmoothRegion(AtomSeeds([0]), core_radius=2.6, blend_width=2.5), frame)
    mixer = _mixer(frame)
    mixed = _mixed(mixer, frame, region)
    share = region.lambda_
    gap = (_sites(EXPENSIVE, frame) - 0.3 - _sites(CHEAP, frame))[(share > 0.0) & (share < 1.0)]
    assert mixed.diagnostics.gap_max == pytest.approx(np.abs(gap).max())
    assert mixed.diagnostics.gap_rms == pytest.approx(np.sqrt((gap**2).mean()))
    still = _mixed(mixer, frame, _still(region))
    assert (still.diagnostics.gap_max, still.diagnostics.gap_rms, still.diagnostics.pull_max) == (
        None,
        None,
        None,
    )  # not measured
    assert still.diagnostics.mismatch_max is None
    pulled = np.linalg.norm(mixed.forces - still.forces, axis=1)
    assert mixed.diagnostics.pull_max == pytest.approx(pulled.max())
    assert mixed.energy == pytest.approx(still.energy, abs=JUMP)
    (cluster,) = mixer.plan(frame, region).clusters
    assert sum(shells(mixed)) == len(cluster.atoms)
    assert (mixed.diagnostics.buffer, mixed.diagnostics.energy_is) == (0, "mixed")
    assert mixer.carver.buffer_width == 0.0
    assert mixer.carver.halo_width == pytest.approx(EXPENSIVE.receptive_field)


def test_site_energies_are_asked_for_only_where_lambda_moves_or_jumps() -> None:
    frame = silicon(6)
    region = divide(SmoothRegion(AtomSeeds([0]), core_radius=2.6, blend_width=2.5), frame)
    mixer = _mixer(frame)
    jumping = Region(np.zeros(len(frame)), region.seeds, before=region.lambda_)
    for divided, wanted in ((region, True), (_still(region), False), (jumping, True)):
        plans = [mixer.plan(frame, divided, whole_known=known) for known in (False, True)]
        asked = [job for plan in plans for _, job in plan]
        assert len(asked) == 4
        assert [job.energies for job in asked] == [wanted] * len(asked)


def test_the_criterion_travels_with_the_whole_system() -> None:
    frame = silicon(2)
    mixer = _mixer(frame)
    nobody = np.empty(0, dtype=np.intp)
    for share in (0.0, 0.5, 1.0):
        plan = mixer.plan(frame, Region(np.full(len(frame), share), nobody), criterion="pe/atom")
        assert dict(plan)[WHOLE].criterion == "pe/atom"


def test_a_missing_result_is_an_error() -> None:
    frame = silicon(2)
    mixer = _mixer(frame)
    region = divide(SmoothRegion(AtomSeeds([0]), core_radius=2.0, blend_width=2.0), frame)
    plan = mixer.plan(frame, region)
    results = evaluate_plan(plan, CHEAP, EXPENSIVE)
    without = {key: result for key, result in results.items() if key != WHOLE}
    with pytest.raises(ValueError, match="cheap result is missing"):
        mixer.combine(plan, without)
    with pytest.raises(ValueError, match="expensive"):
        mixer.combine(plan, {WHOLE: results[WHOLE]})
    with pytest.raises(ValueError, match="no site energies"):
        mixer.combine(plan, {**results, WHOLE: CHEAP(whole_system_job(frame))})
    with pytest.raises(ValueError, match="whole system known"):
        mixer.combine(plan, results, "correction")


def _refused(
    expensive: ModelCapabilities | None = None,
    cheap: ModelCapabilities | None = None,
    **settings: object,
) -> str:
    able = ModelCapabilities(5.0, weights=True, energies=True, name="able")
    with pytest.raises(ConfigError) as caught:
        EnergyMixer(
            expensive=expensive or able, cheap=cheap or able, offsets=np.zeros(8), **settings
        )  # type: ignore[arg-type]
    return str(caught.value)


def test_a_model_that_cannot_weight_is_refused_with_its_reason_and_the_cure() -> None:
    lame = ModelCapabilities(
        5.0, energies=True, name="si.sw", no_weights="sw is a three-body potential"
    )
    said = _refused(cheap=lame)
    assert "cheap model 'si.sw' cannot weight site energies: sw is a three-body potential" in said
    assert "mixing.kind = 'force'" in said
    assert "expensive model 'si.sw'" in _refused(expensive=lame)


def test_a_model_without_site_energies_is_refused_where_they_are_needed() -> None:
    lame = ModelCapabilities(5.0, weights=True, name="mute")
    said = _refused(cheap=lame)
    assert "cheap model 'mute' cannot return site energies" in said
    assert "moves or jumps" in said
    able = ModelCapabilities(5.0, weights=True, energies=True)
    EnergyMixer(expensive=able, cheap=lame, offsets=np.zeros(8), energies=False)


def test_a_thin_halo_must_be_allowed_in_words() -> None:
    said = _refused(halo_width=4.0)
    assert "halo_width = 4.0 Å is thinner than the receptive field of model 'able' (5.0 Å)" in said
    assert "allow_thin_buffer" in said
    able = ModelCapabilities(5.0, weights=True, energies=True)
    mixer = EnergyMixer(
        expensive=able, cheap=able, offsets=np.zeros(8), halo_width=4.0, allow_thin=True
    )
    assert mixer.carver.halo_width == 4.0


@pytest.mark.parametrize("field", [None, float("inf")])
def test_an_unknown_reach_is_refused_with_the_setting_that_helps(field: float | None) -> None:
    blind = ModelCapabilities(field, weights=True, energies=True, name="blind")
    assert "models.expensive.receptive_field" in _refused(expensive=blind)
    able = ModelCapabilities(5.0, weights=True, energies=True)
    mixer = EnergyMixer(expensive=able, cheap=blind, offsets=np.zeros(8))
    frame = silicon(1)
    region = Region(np.ones(8), np.empty(0, dtype=np.intp))
    mixer.plan(frame, region)  # a weighted whole system needs no cluster of the cheap model
    with pytest.raises(ConfigError, match=r"'blind'.*models\.cheap\.receptive_field"):
        mixer.plan(frame, region, whole_known=True)
