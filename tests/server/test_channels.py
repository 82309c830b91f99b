"""Channels of one mixed potential: what they add up to, and that nothing is evaluated twice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from cells import fcc
from fakes import EngineListener
from mixserver_worker.engines.toy import ToyEngine
from tolerance import EXACT, SAME

from mixserver.analysis.records import read_reports
from mixserver.config import Channel
from mixserver.core.errors import BadInput, NoWorkerError
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.mixing import ForceMixer, ModelCapabilities
from mixserver.mixing.clusters import Carver, Cluster
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.jobs import whole_system_job
from mixserver.mixing.mixer import Mixer
from mixserver.region import (
    AtomSeeds,
    CriterionSeeds,
    FixedRegion,
    Region,
    RegionModel,
    ShellRegion,
    SmoothRegion,
)
from mixserver.server import channels
from mixserver.server.channels import Channels
from mixserver.server.evaluator import Evaluator, Separately
from mixserver.server.records.recorder import Recorder
from mixserver.wire.ipi import Reply, Request
from mixserver.wire.worker import Evaluate, Role

FRAME = fcc(3, 5.3)
COUNT = len(FRAME)
ROLES: tuple[Role, ...] = ("cheap", "expensive")
REACH = ModelCapabilities(receptive_field=5.0, weights=True, energies=True, name="toy")
Kind = Literal["force", "frozen", "follow", "hysteresis", "criterion", "samples", "held"]
REMEMBERING: tuple[Kind, ...] = ("hysteresis", "criterion", "samples", "held")
KINDS: tuple[Kind, ...] = ("force", "frozen", "follow", *REMEMBERING)


class Workers(EngineListener):
    """Toy workers in this process, two of each role; some may be asleep, or find a job at fault."""

    def __init__(self) -> None:
        engines: dict[Role, ToyEngine] = {
            "cheap": ToyEngine(epsilon=0.01, sigma=3.4, cutoff=5.0),
            "expensive": ToyEngine(epsilon=0.02, sigma=3.4, cutoff=5.0),
        }
        super().__init__({f"{r}-{n}": (r, e) for r, e in engines.items() for n in range(2)})
        self.fault: Role | None = None
        """The role whose next job is found at fault."""
        self._faulty: int | None = None

    def count(self) -> tuple[int, int, int]:
        """How many jobs there were: unweighted, other cheap ones, expensive."""
        jobs = {job.job: (self.workers[worker][0], job) for worker, job in self.jobs}.values()
        plain = sum(role == "cheap" and job.weight is None for role, job in jobs)
        cheap = sum(role == "cheap" for role, _ in jobs)
        return plain, cheap - plain, len(jobs) - cheap

    async def delay(self, role: Role, job: Evaluate) -> None:
        await super().delay(role, job)
        if self.fault == role:  # of one job, whichever worker gets it
            self.fault, self._faulty = None, job.job
        if job.job == self._faulty:
            raise BadInput("no such atom")


def _selector(kind: Kind) -> RegionModel:
    widths: dict[str, Any] = {"core_radius": 3.0, "blend_width": 2.0}
    if kind == "follow":
        return SmoothRegion(AtomSeeds([0, 1]), **widths)
    coordination = "coord/atom cutoff 4.0"
    match kind:
        case "hysteresis":
            return ShellRegion(AtomSeeds([0]), hysteresis=(3.0, 5.0), **widths)
        case "criterion":  # the first evaluation chooses
            seeds = CriterionSeeds(coordination, high=11.0, every=2)
        case "samples":  # values that enter an average only, before any choice
            seeds = CriterionSeeds(coordination, low=13.0, every=3, samples=3, initial=[0])
        case "held":
            seeds = CriterionSeeds(coordination, low=13.0, every=2, initial=[0])
            return ShellRegion(seeds, hysteresis=(3.0, 5.0), held=True, **widths)
        case _:
            return FixedRegion.at(ShellRegion(AtomSeeds([0]), **widths), FRAME)
    return ShellRegion(seeds, hysteresis=(3.0, 5.0), **widths)


def _mixer(kind: Kind) -> Mixer:
    if kind not in ("frozen", "follow", "held"):
        return ForceMixer(model=REACH)
    zeros = np.full(COUNT, 0.01)
    return EnergyMixer(expensive=REACH, cheap=REACH, offsets=zeros, energies=kind != "frozen")


@dataclass
class Bench:
    """A step, who works for it, and what it wrote."""

    step: Evaluator
    workers: Workers
    region_model: RegionModel
    dispatcher: Dispatcher
    folder: Path
    problems: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, number: int, channel: Channel = "mixed", bead: int = 0) -> Reply:
        return await self.step(_request(number, bead), channel)

    def begin(self, number: int, channel: Channel = "mixed", bead: int = 0) -> asyncio.Task[Reply]:
        return asyncio.ensure_future(self.ask(number, channel, bead))


@contextlib.asynccontextmanager
async def _bench(
    folder: Path,
    kind: Kind = "frozen",
    *,
    single: bool = False,
    mixer: Mixer | None = None,
) -> AsyncIterator[Bench]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    workers, region_model, recorder = Workers(), _selector(kind), Recorder(folder)
    made = mixer or _mixer(kind)

    async def mixer_for() -> Mixer:
        return made

    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: problems.append(about))
    try:
        async with Dispatcher(Policy(roles={"cheap": "", "expensive": ""}), [workers]) as opened:
            evaluating = (
                Separately(region_model, opened)
                if single
                else Channels(region_model, opened, len(FRAME))
            )
            step = Evaluator(FRAME.topology, evaluating, mixer_for, recorder)
            yield Bench(step, workers, region_model, opened, folder, problems)
    finally:
        recorder.close()
    await _turns()
    gc.collect()
    assert problems == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _work(bench: Bench) -> float:
    """The lambda work of bead 0, in eV."""
    return float(bench.region_model.state()["0"]["work"])


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _request(number: int, bead: int = 0) -> Request:
    """Atom 0 walks through the crystal, between the others, so that lambda changes all the time."""
    positions = FRAME.positions.copy()
    positions[0] += [0.7 * number, 1.0, 0.0]
    return Request(positions, FRAME.cell.copy(), bead, "", 0)


def _assert_same(one: Sequence[Any], other: Sequence[Any], tolerance: float) -> None:
    for here, there in zip(one, other, strict=True):
        np.testing.assert_allclose(here, there, rtol=0.0, atol=tolerance)


def _numbers(reply: Reply) -> tuple[float, np.ndarray, np.ndarray]:
    return reply.energy, reply.forces, reply.virial


@pytest.mark.parametrize("kind", ["force", "frozen", "follow"])
async def test_mixed_is_cheap_plus_correction_and_what_one_channel_gives(
    tmp_path: Path, kind: Kind
) -> None:
    async with _bench(tmp_path / "one", kind, single=True) as one:
        alone = _numbers(await one.ask(1))
    async with _bench(tmp_path / "all", kind) as bench:
        cheap = _numbers(await bench.ask(1, "cheap"))
        correction = _numbers(await bench.ask(1, "correction"))
        mixed = _numbers(await bench.ask(1))
        plain = ToyEngine(epsilon=0.01, sigma=3.4, cutoff=5.0).evaluate(
            whole_system_job(FRAME.topology.frame(_request(1).positions, FRAME.cell))
        )
    _assert_same(mixed, [a + b for a, b in zip(cheap, correction, strict=True)], EXACT)
    _assert_same(mixed, alone, EXACT)
    _assert_same(cheap, (plain.energy, plain.forces, plain.virial), SAME)
    assert np.abs(correction[1]).max() > 1e-3
    reports = read_reports(tmp_path / "all")
    assert [r.evaluation for r in reports] == [0, 1, 2]
    assert [r.channel for r in reports] == ["cheap", "correction", "mixed"]
    whose = "cheap" if kind == "force" else "mixed"
    assert [r.energy_is for r in reports] == ["cheap", "correction", whose]
    assert [r.core > 0 for r in reports] == [False, True, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [True, False], ids=["together", "in turn"])
async def test_the_same_positions_are_evaluated_once(
    tmp_path: Path, kind: Kind, together: bool
) -> None:
    # mixed and correction cannot both have one memory; that is refused in mix.toml
    regional: Channel = "correction" if kind in REMEMBERING else "mixed"
    asked: list[Channel] = ["cheap", "correction", regional, "cheap"]
    async with _bench(tmp_path, kind) as bench:
        for number in range(4):
            if together:
                await asyncio.gather(*(bench.ask(number, channel) for channel in asked))
            else:
                for channel in asked:
                    await bench.ask(number, channel)
        plain, parts, expensive = bench.workers.count()
        jobs = len(bench.workers.jobs)
        await bench.ask(3, regional)
        await bench.ask(3, "cheap")
        assert len(bench.workers.jobs) == jobs
    clusters = [r.clusters for r in read_reports(tmp_path) if r.clusters]
    assert len(clusters) >= 4
    assert (plain, expensive) == (4, 4)
    assert parts == (4 if kind in ("frozen", "follow", "held") else 0)


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_regions_with_memory_go_the_way_they_go_with_one_channel(
    tmp_path: Path, kind: Kind
) -> None:
    async with _bench(tmp_path / "one", kind, single=True) as one:
        alone = [_numbers(await one.ask(number)) for number in range(7)]
        left = one.region_model.state()
        work = _work(one)
    assert (abs(work) > 1e-6) is (kind == "held")
    for channel in ("mixed", "correction"):
        async with _bench(tmp_path / channel, kind) as bench:
            for number in range(7):
                here = _numbers(await bench.ask(number, channel))
                for _ in range(2):  # i-PI's connection is lost before the reply has arrived
                    _assert_same(here, _numbers(await bench.ask(number, channel)), SAME)
                cheap = _numbers(await bench.ask(number, "cheap", bead=5 + number))
                if channel == "correction":
                    here = tuple(a + b for a, b in zip(here, cheap, strict=True))
                _assert_same(here, alone[number], EXACT)
            assert set(bench.region_model.state()) == {"0"}  # cheap has no region, so no memory
            assert bench.region_model.state()["0"] | {"work": 0} == left["0"] | {"work": 0}
            assert abs(_work(bench) - work) < EXACT
            assert bench.workers.count()[0] == 7


@pytest.mark.parametrize("kind", REMEMBERING)
async def test_what_was_cut_off_counts_once(tmp_path: Path, kind: Kind) -> None:
    async with _bench(tmp_path / "smooth", kind) as bench:
        smooth = [_numbers(await bench.ask(number, "correction")) for number in range(5)]
        left = bench.region_model.state()
    async with _bench(tmp_path / "cut", kind) as bench:
        for number in range(5):
            before = bench.region_model.state()
            bench.workers.sleep()
            for elsewhere in (number, number + 10):  # i-PI may even come back from elsewhere
                lost = bench.begin(elsewhere, "correction")
                await _turns()
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
                assert bench.region_model.state() == before
            bench.workers.wake()
            _assert_same(_numbers(await bench.ask(number, "correction")), smooth[number], SAME)
        assert bench.region_model.state() == left


async def test_going_back_is_an_evaluation_where_regions_have_a_memory(tmp_path: Path) -> None:
    numbers = (0, 1, 0, 1, 1)
    async with _bench(tmp_path / "one", "hysteresis", single=True) as one:
        alone = [_numbers(await one.ask(number)) for number in numbers]
    async with _bench(tmp_path / "all", "hysteresis") as bench:
        for number, there in zip(numbers, alone, strict=True):
            _assert_same(_numbers(await bench.ask(number)), there, EXACT)
        assert bench.region_model.state()["0"]["evaluations"] == 4
        assert bench.workers.count() == (2, 0, 4)  # the cheap model has no memory


async def test_beads_at_one_place_share_but_count_each_for_itself(tmp_path: Path) -> None:
    for kind, expensive in (("frozen", 1), ("hysteresis", 4)):
        async with _bench(tmp_path / kind, kind) as bench:
            asked = [bench.ask(0, "mixed", bead) for bead in range(4)]
            replies = [_numbers(reply) for reply in await asyncio.gather(*asked)]
            for reply in replies[1:]:
                _assert_same(reply, replies[0], SAME)
            plain, _, rest = bench.workers.count()
            assert (plain, rest) == (1, expensive)
            counted = (
                [memory["evaluations"] for memory in bench.region_model.state().values()]
                if (kind == "hysteresis")
                else []
            )
            assert counted == [1] * (4 if kind == "hysteresis" else 0)
        assert [r.bead for r in read_reports(tmp_path / kind)] == [0, 1, 2, 3]


@pytest.mark.parametrize("role", ["cheap", "expensive"])
@pytest.mark.parametrize("kind", ["force", "frozen"])
async def test_what_failed_fails_all_who_wait_and_is_evaluated_again(
    tmp_path: Path, kind: Kind, role: Role
) -> None:
    async with _bench(tmp_path, kind) as bench:
        bench.workers.fault = role
        two = [bench.begin(0), bench.begin(0)]
        for failure in await asyncio.gather(*two, return_exceptions=True):
            assert isinstance(failure, BadInput)
        again = _numbers(await bench.ask(0))
        _assert_same(_numbers(await bench.ask(0)), again, SAME)
        # what did not fail need not be evaluated again, if it was there by then
        assert 1 <= bench.workers.count()[2] <= 2
        assert 1 <= bench.workers.count()[0] <= 2


async def test_a_failure_is_told_though_the_other_model_never_answers(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        bench.workers.sleep("cheap")
        bench.workers.fault = "expensive"
        with pytest.raises(BadInput, match="no such atom"):
            await asyncio.wait_for(bench.ask(0), 20.0)
        bench.workers.wake()
        await bench.ask(0)


@pytest.mark.parametrize("kind", ["frozen", "hysteresis"])
async def test_who_hangs_up_leaves_what_others_wait_for(tmp_path: Path, kind: Kind) -> None:
    async with _bench(tmp_path, kind) as bench:
        bench.workers.sleep()
        gone, stays, cheap = bench.begin(0), bench.begin(0), bench.begin(0, "cheap")
        await _turns()
        gone.cancel()
        await _turns()
        bench.workers.wake()
        await asyncio.gather(stays, cheap)
        assert gone.cancelled()
        assert bench.workers.count() == (1, int(kind == "frozen"), 1)
        if kind == "hysteresis":  # answered, so counted, whoever it was begun for
            assert bench.region_model.state()["0"]["evaluations"] == 1


async def test_what_nobody_waits_for_is_withdrawn(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        bench.workers.sleep()
        queued = [bench.begin(number) for number in range(6)]  # more than there are workers
        await _turns()
        for task in queued[1:]:
            task.cancel()
        await _turns()
        bench.workers.wake()
        await queued[0]
        await asyncio.gather(*queued, return_exceptions=True)
        assert [task.cancelled() for task in queued] == [False] + [True] * 5
        assert len(bench.workers.jobs) < 2 * 6
        assert (await bench.ask(3)).forces.shape == (COUNT, 3)  # and can be had again


async def test_the_end_of_all_is_told_to_all(tmp_path: Path) -> None:
    async with _bench(tmp_path) as bench:
        bench.workers.sleep()
        asked: list[Channel] = ["mixed", "cheap", "correction"]
        waiting = [bench.begin(number, channel) for number in range(3) for channel in asked]
        await _turns()
        await bench.dispatcher.close("the test ends")
        for end in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(end, NoWorkerError)


@pytest.mark.parametrize("limit", [("_MOST", 4), ("_MOST_BYTES", 4 * 200 * COUNT)])
async def test_old_answers_are_forgotten_but_none_that_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]
) -> None:
    monkeypatch.setattr(channels, *limit)
    async with _bench(tmp_path) as bench:
        request = _request(0)
        first = weakref.ref(request.positions)
        await bench.step(request, "cheap")
        del request
        for number in range(1, 5):
            assert first() is not None
            await bench.ask(number, "correction")
        await _turns()
        gc.collect()
        assert first() is None
        jobs = len(bench.workers.jobs)
        bench.workers.sleep()
        many = [bench.begin(number, "cheap") for number in range(10, 20)]
        await _turns()
        many += [bench.begin(number, "cheap") for number in range(10, 20)]
        bench.workers.wake()
        await asyncio.gather(*many)
        assert len(bench.workers.jobs) == jobs + 10


class TimedCarver(Carver):
    """Carves slowly, and notes how long that took."""

    def __init__(self, buffer_width: float, halo_width: float) -> None:
        super().__init__(buffer_width, halo_width)
        self.took_ms: list[float] = []

    def carve(self, frame: Frame, region: Region, *, divisible: bool = True) -> tuple[Cluster, ...]:
        began = time.monotonic()
        time.sleep(0.02)
        clusters = super().carve(frame, region, divisible=divisible)
        self.took_ms.append(1e3 * (time.monotonic() - began))
        return clusters


async def test_ones_own_time_is_what_was_not_spent_waiting(tmp_path: Path) -> None:
    mixer = ForceMixer(model=REACH)
    mixer.carver = carver = TimedCarver(mixer.carver.buffer_width, mixer.carver.halo_width)
    waited_ms = []
    async with _bench(tmp_path, "force", mixer=mixer) as bench:
        requests: tuple[tuple[int, Channel], ...] = (
            (0, "mixed"),  # both models at once
            (0, "correction"),  # all is there
            (1, "cheap"),
            (1, "correction"),  # the cheap part is there
        )
        for number, channel in requests:
            bench.workers.sleep()
            asked = bench.begin(number, channel)
            await _turns()  # until it waits for the workers
            began = time.monotonic()
            await asyncio.sleep(0.02)
            waited_ms.append(1e3 * (time.monotonic() - began))
            bench.workers.wake()
            await asked
    both, known, cheap, rest = read_reports(tmp_path)
    for report in (both, known, cheap, rest):
        assert abs(report.ms_own + report.ms_waiting - report.ms_total) < 1e-6
    assert known.ms_waiting == 0.0
    for report, waited in ((both, waited_ms[0]), (cheap, waited_ms[2]), (rest, waited_ms[3])):
        assert report.ms_waiting >= waited
    for report, took in zip((both, rest), carver.took_ms, strict=True):
        assert report.ms_own >= took
