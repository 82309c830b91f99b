"""The status of a server: what counts as healthy, where it is found, and how it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from limits import HANG_S

from mixserver.config import Workers, load_case
from mixserver.core.errors import ConfigError, MissingPackage, MixserverError, Unreachable
from mixserver.core.key_folder import KeyFolder
from mixserver.core.keys import KeyPair, read_secret_key
from mixserver.dispatch.zmq_workers.connections import MOST_VISITORS
from mixserver.dispatch.zmq_workers.lock import ZmqLock
from mixserver.ipi.output import PropertiesTail
from mixserver.server.local_workers import build_for_local_workers
from mixserver.server.records.report import Report
from mixserver.server.records.statistics import BOUNDS_S, EvaluationStatistics
from mixserver.server.runs import run_lock
from mixserver.server.service import Service
from mixserver.server.status.client import ask
from mixserver.server.status.health import problems, too_old
from mixserver.server.status.listener import StatusListener
from mixserver.server.status.metrics import metrics, serving_metrics
from mixserver.server.status.place import NOTE, SOCKET, find, noted, own_socket
from mixserver.server.status.snapshot import Snapshots, Steps
from mixserver.wire.status import (
    MOST_WORKERS,
    STATUS_VERSION,
    EvaluationStatus,
    IpiStatus,
    RoleStatus,
    Status,
    StatusRefused,
    WorkerStatus,
    decode_answer,
    encode,
)

MINIMAL = Path(__file__).parents[2] / "inputs/minimal"
LIMITS = Workers(patience_s=5.0, first_worker_s=60.0)
IPI = IpiStatus(state="connected", addresses=("unix:x",), silent_s=0.0)


def role(state: str, **changes: object) -> RoleStatus:
    values: dict[str, Any] = {
        "role": "expensive",
        "state": state,
        "workers": 2,
        "healthy": 1,
        "queue": 0,
        "waiting_s": None,
        "fingerprint": "",
        "last_loss": "",
    }
    return RoleStatus(**{**values, **changes})


def status(**changes: object) -> Status:
    values: dict[str, Any] = {
        "version": STATUS_VERSION,
        "program": "0",
        "time": time.time(),
        "case": "c",
        "run": "r",
        "host": "h",
        "pid": 1,
        "stage": "running",
        "up_s": 100.0,
        "healthy": True,
        "problems": (),
        "workers_at": "",
        "workers": (),
        "roles": (),
        "counts": {},
        "evaluations": EvaluationStatus(total=0, per_s=None, last_age_s=None),
        "ipi": IPI,
    }
    return Status(**{**values, **changes})


class TestHealth:
    @pytest.mark.parametrize("healthy", [role("ok"), role("degraded"), role("awaited")])
    def test_jobs_can_be_evaluated_or_the_first_worker_is_on_its_way(
        self, healthy: RoleStatus
    ) -> None:
        assert problems([healthy], IPI, LIMITS, None) == ()

    def test_a_role_that_lost_all_its_workers(self) -> None:
        lost = role("starved", workers=0, queue=3, waiting_s=7.0, last_loss="w: silent for 6.0 s")
        (problem,) = problems([role("ok"), lost], IPI, LIMITS, None)
        assert "no expensive worker is alive and on time" in problem
        assert "w: silent for 6.0 s" in problem
        assert "3 job(s) have waited for 7 s" in problem

    def test_the_first_worker_is_not_awaited_for_ever(self) -> None:
        waits = msgspec.structs.replace(IPI, silent_s=61.0)
        (problem,) = problems([role("ok"), role("awaited")], waits, LIMITS, None)
        assert problem == "no expensive worker has joined yet; i-PI has waited for 61 s"
        assert problems([role("ok")], waits, LIMITS, None) == ()
        soon = msgspec.structs.replace(IPI, silent_s=59.0)
        assert problems([role("awaited")], soon, LIMITS, None) == ()

    def test_an_i_pi_that_left(self) -> None:
        away = IpiStatus(state="away", addresses=("unix:x",), silent_s=6.0)
        (problem,) = problems([], away, LIMITS, None)
        assert "left without EXIT" in problem
        blip = msgspec.structs.replace(away, silent_s=1.0)
        assert problems([], blip, LIMITS, None) == ()

    def test_a_run_that_ends(self) -> None:
        assert problems([], IPI, LIMITS, MixserverError("the disk\nburns")) == (
            "the run ends: the disk burns",
        )

    def test_an_age_counts_from_the_start_before_the_first_answer(self) -> None:
        assert "since the start" in too_old(status(), 99.0)
        assert too_old(status(), 101.0) == ""
        answered = status(evaluations=EvaluationStatus(total=1, per_s=None, last_age_s=5.0))
        assert too_old(answered, 6.0) == ""
        assert "for 5 s" in too_old(answered, 4.0)


class TestStatistics:
    def test_a_rate_is_of_the_latest_and_falls_while_none_comes(self) -> None:
        now = 0.0
        statistics = EvaluationStatistics(lambda: now)
        assert (statistics.per_s, statistics.age_s) == (None, None)
        for _ in range(200):
            now += 0.5
            statistics.add(Report(evaluation=0))
        assert statistics.per_s == pytest.approx(2.0)
        assert statistics.age_s == 0.0
        now += 63 * 0.5
        assert statistics.per_s == pytest.approx(1.0)
        assert statistics.age_s == 31.5

    def test_histograms_count_each_part_that_was_measured(self) -> None:
        statistics = EvaluationStatistics()
        statistics.add(Report(evaluation=0, ms_total=1.0))
        assert statistics.histograms is None
        statistics.keep_histograms()
        statistics.add(Report(evaluation=0, ms_total=2.0, ms_own=0.05, ms_cheap=1e9))
        histograms = statistics.histograms
        assert histograms is not None
        assert sum(histograms["expensive"].counts) == 0
        assert histograms["total"].counts[BOUNDS_S.index(2e-3)] == 1  # a bound is in its bucket
        assert histograms["own"].counts[0] == 1
        assert histograms["cheap"].counts[-1] == 1
        assert histograms["cheap"].sum_s == pytest.approx(1e6)


class TestPlace:
    def test_a_run_is_found_by_its_folder_its_case_and_its_parent(self, tmp_path: Path) -> None:
        case = tmp_path / "case"
        run = case / "runs" / "0002"
        run.mkdir(parents=True)
        (case / "runs" / "0001").mkdir()
        (case / "mix.toml").write_text(
            '[upstream]\nstructure = "x"\naddress = "unix:x"\n[models.cheap]\n'
        )
        for target in (case, case / "mix.toml", case / "runs"):
            with pytest.raises(Unreachable, match=r"0002 is over"):
                find(str(target))
        with run_lock(run), noted(run, "tcp://127.0.0.1:5"):
            for target in (case, case / "mix.toml", case / "runs", run):
                assert find(str(target)).address == "tcp://127.0.0.1:5"
        assert not (run / NOTE).exists()

    def test_a_running_run_comes_before_a_later_one_that_is_over(self, tmp_path: Path) -> None:
        for name in ("0001", "0002", "0003"):
            (tmp_path / name).mkdir()
        with run_lock(tmp_path / "0002"), noted(tmp_path / "0002", "tcp://127.0.0.1:5"):
            assert find(str(tmp_path)).address == "tcp://127.0.0.1:5"

    def test_a_killed_server_is_named(self, tmp_path: Path) -> None:
        (tmp_path / NOTE).write_text('{"address": "ipc:///x", "host": "h", "pid": 1}')
        (tmp_path / ".running").touch()
        with pytest.raises(Unreachable, match="was killed"):
            find(str(tmp_path))

    @pytest.mark.parametrize("note", ["", "[]", '{"address": 1}', "\0"])
    def test_a_damaged_note_is_explained(self, tmp_path: Path, note: str) -> None:
        (tmp_path / NOTE).write_text(note)
        with pytest.raises(Unreachable, match="cannot be read as the note"):
            find(str(tmp_path))

    def test_a_folder_that_moved_is_asked_where_it_is_now(self, tmp_path: Path) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as bound:
            bound.bind(f"ipc://{tmp_path / SOCKET}")
            with noted(tmp_path, f"ipc:///elsewhere/{SOCKET}"):
                assert find(str(tmp_path)).address == f"ipc://{tmp_path / SOCKET}"

    @pytest.mark.parametrize("target", ["nowhere", "tcp://x", "tcp://127.0.0.1:70000"])
    def test_what_is_no_target_is_refused(self, target: str) -> None:
        with pytest.raises(ConfigError):
            find(target)

    def test_a_long_path_has_no_socket_of_its_own(self, tmp_path: Path) -> None:
        assert own_socket(tmp_path / ("x" * 100)) is None
        assert own_socket(tmp_path) == tmp_path.resolve() / SOCKET


def test_the_dashboard_and_the_page_name_metrics_that_exist() -> None:
    report = dict.fromkeys(("mismatch_max", "mismatch_rms", "work"), 1.0)
    sizes = dict.fromkeys(("core", "blend", "buffer", "halo", "clusters"), 1)
    evaluations = EvaluationStatus(total=1, per_s=1.0, last_age_s=1.0, **report, **sizes)  # type: ignore[arg-type]
    ipi = msgspec.structs.replace(IPI, step=1, total_steps=2)
    whole = status(evaluations=evaluations, ipi=ipi, roles=(role("ok"),))
    exist = {"mixserver_info"}
    for metric in metrics(whole, {}):
        kind = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum", ""]}
        exist |= {metric.name + end for end in kind.get(metric.type, [""])}
    root = Path(__file__).parents[2]
    for file in ("docker/grafana/mixserver.json", "docs/howto/monitor.md"):
        named = set(re.findall(r"\bmixserver_\w+\b", (root / file).read_text()))
        assert len(named) > 15
        assert named <= exist


@pytest.mark.parametrize(
    ("once", "printed", "evaluation", "made"),
    [
        (True, None, None, None),
        (True, None, 0, 100),  # the start of a run that continues step 100
        (True, 100.0, 7, 107),  # printed rarely
        (True, 109.0, 7, 109),
        (True, 100.0, 60, 150),  # requests were repeated
        (False, 100.0, 60, 100),
        (False, None, 60, None),
    ],
)
def test_evaluations_count_steps_that_are_not_printed(
    once: bool, printed: float | None, evaluation: int | None, made: int | None, tmp_path: Path
) -> None:
    steps = Steps(PropertiesTail(tmp_path / "out"), 100, 150, True, once)
    assert steps.made(printed, evaluation) == made


class TestMetricsAreRefused:
    @staticmethod
    async def opened(address: str, tmp_path: Path) -> None:
        shutil.copytree(MINIMAL, tmp_path, dirs_exist_ok=True)
        case = load_case(tmp_path)
        parts = build_for_local_workers(case, tmp_path, str(tmp_path))
        snapshots = Snapshots(Service(parts), case, tmp_path)

        async def snapshot() -> Status:
            return snapshots.take()

        try:
            async with serving_metrics(address, snapshots, snapshot):
                pass
        finally:
            parts.recorder.close()

    async def test_without_the_library_the_message_names_the_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(MissingPackage, match=r'"\.\[metrics\]"'):
            await self.opened("127.0.0.1:0", tmp_path)

    async def test_an_address_in_use_or_malformed(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            used = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(ConfigError, match=r"status.metrics = .* cannot be bound"):
                await self.opened(used, tmp_path)
        for wrong in ("unix:x", "9464", "127.0.0.1:99999"):
            with pytest.raises(ConfigError):
                await self.opened(wrong, tmp_path)


class Server:
    """A listener on a real socket, and how often it took a snapshot."""

    def __init__(
        self,
        folder: Path,
        answer: Status | Exception,
        address: str = "",
        lock: ZmqLock | None = None,
    ) -> None:
        self.taken = 0
        self.listener = StatusListener(address or f"ipc://{folder}/s", self.snapshot, lock)
        self.answer = answer

    async def snapshot(self) -> Status:
        self.taken += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def __aenter__(self) -> Server:
        await self.listener.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.close()


async def ask_raw(address: str, *frames: bytes) -> list[bytes]:
    def asking() -> list[bytes]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as one:
            one.setsockopt(zmq.LINGER, 0)
            one.connect(address)
            one.send_multipart(frames)
            return one.recv_multipart() if one.poll(5000) else []

    return await asyncio.to_thread(asking)


class TestAsking:
    async def test_many_questions_cost_few_snapshots(self, tmp_path: Path) -> None:
        async with Server(tmp_path, status()) as server:
            address = server.listener.address
            began = time.monotonic()
            answers = await asyncio.gather(*(asyncio.to_thread(ask, address) for _ in range(40)))
            took = time.monotonic() - began
        assert all(answer == server.answer for answer in answers)
        assert server.taken <= 2 + took / 0.1

    async def test_a_crowd_that_asks_nothing_leaves_room_for_a_question(
        self, tmp_path: Path
    ) -> None:
        async with Server(tmp_path, status(), "tcp://127.0.0.1:0") as server:
            host, port = server.listener.address.removeprefix("tcp://").split(":")
            before = len(os.listdir("/proc/self/fd"))
            crowd = [
                await asyncio.open_connection(host, int(port)) for _ in range(3 * MOST_VISITORS)
            ]
            try:
                async with asyncio.timeout(HANG_S):
                    with contextlib.suppress(OSError):
                        await crowd[0][0].read()  # ended
                assert await asyncio.to_thread(ask, server.listener.address) == server.answer
                assert len(os.listdir("/proc/self/fd")) - before < len(crowd) + MOST_VISITORS + 20
            finally:
                for _, writer in crowd:
                    writer.transport.abort()

    async def test_garbage_is_refused_and_the_next_question_answered(self, tmp_path: Path) -> None:
        async with Server(tmp_path, status()) as server:
            address = server.listener.address
            for frames in ([b""], [b"\xc1"], [b"x" * 200], [b"a", b"b"], [os.urandom(99)]):
                refused = decode_answer(await ask_raw(address, *frames))
                assert isinstance(refused, StatusRefused)
            later = msgspec.msgpack.encode({"type": "status?", "version": 99})
            refused = decode_answer(await ask_raw(address, later))
            assert isinstance(refused, StatusRefused)
            assert "you asked for 99" in refused.reason
            assert await asyncio.to_thread(ask, address) == server.answer
        assert server.taken == 1

    async def test_a_snapshot_that_fails_refuses_and_ends_nothing(self, tmp_path: Path) -> None:
        async with Server(tmp_path, RuntimeError("broken")) as server:
            for _ in range(2):
                with pytest.raises(Unreachable, match="broken"):
                    await asyncio.to_thread(ask, server.listener.address)
            server.answer = status()
            assert await asyncio.to_thread(ask, server.listener.address) == server.answer

    async def test_a_thousand_workers_fit_into_an_answer(self, tmp_path: Path) -> None:
        worker = WorkerStatus(
            name="n" * 200,
            role="cheap",
            host="h" * 200,
            engine="e" * 50,
            model="m" * 200,
            dtype="float64",
            state="overdue",
            busy_s=1e-3,
            atoms=10**9,
            silent_s=1e-3,
            jobs=10**9,
            mean_s=1e-3,
        )
        assert len(encode(status(workers=(worker,) * MOST_WORKERS))) < 1 << 20

    async def test_a_lock_lets_in_keys_of_its_list_and_no_others(self, tmp_path: Path) -> None:
        folder = KeyFolder(tmp_path / "keys")
        listed = read_secret_key(folder.new("monitor"))
        revoked = read_secret_key(folder.new("old"))
        folder.revoke("old")
        lock = ZmqLock(folder.folder)
        async with Server(tmp_path, status(), "tcp://127.0.0.1:0", lock) as server:

            def asked(pair: KeyPair | None) -> Status:
                keys = None if pair is None else (pair, lock.public)
                limit = HANG_S if pair == listed else 1.0
                return ask(server.listener.address, timeout_s=limit, keys=keys)

            for pair in (None, KeyPair.new(), revoked):
                with pytest.raises(Unreachable, match="no answer"):
                    await asyncio.to_thread(asked, pair)
            assert server.taken == 0
            assert await asyncio.to_thread(asked, listed) == server.answer

    def test_a_missing_server_is_reported_in_time(self, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match=r"no answer from .* within 0.2 s"):
            ask(f"ipc://{tmp_path}/nothing", timeout_s=0.2)
