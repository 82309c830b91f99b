"""A real run asked for its status while workers come, go and die, and while it hangs or is killed.

One run serves most tests, in their order: each leaves it as the next one needs it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from command_here import mixserver_here
from command_line import BIN, edit, minimal_case, mixserver, mixserver_done
from limits import HANG_S
from prometheus_client.parser import text_string_to_metric_families

from mixserver.core.errors import Unreachable
from mixserver.server.status.client import ask
from mixserver.server.status.place import find

EXPENSIVE = ("toy", "--epsilon", "0.0120", "--sigma", "3.4", "--cutoff", "7.0")


class RunningCase:
    """`mixserver run` on the minimal case; its expensive workers are started by hand."""

    def __init__(self, folder: Path) -> None:
        self.case = minimal_case(folder)
        edit(self.case / "input.xml", "<total_steps> 100", "<total_steps> 1000000")
        text = (self.case / "mix.toml").read_text()
        cheap, _ = text.rsplit("[[local]]", 1)
        more = '\n[workers]\ndoor = "tcp://127.0.0.1:*"\npatience_s = 1.0\nheartbeat_s = 0.2\n'
        more += '[status]\nmetrics = "127.0.0.1:0"\n'
        (self.case / "mix.toml").write_text(cheap + more)
        self.log = (folder / "log").open("wb")
        command = [BIN / "mixserver", "run", self.case, "--log-json"]
        self.server = subprocess.Popen(command, stderr=self.log, stdout=self.log)
        self.workers: list[subprocess.Popen[bytes]] = []

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = msgspec.to_builtins(ask(find(str(self.case)).address))
        except Unreachable:
            return {}
        return found

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        until = time.monotonic() + HANG_S
        while time.monotonic() < until:
            status = self.status()
            if status and condition(status):
                return status
            assert self.server.poll() is None, (self.case.parent / "log").read_text()
            time.sleep(0.05)
        raise AssertionError(f"never came: {status}")

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        server = self.status()["workers_at"]
        where = ("--server", server, "--role", "expensive", "--name", name)
        worker = subprocess.Popen([BIN / "mixserver-worker", *EXPENSIVE, *where], stderr=self.log)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        for process in (*self.workers, self.server):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(HANG_S)
        self.log.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCase]:
    case = RunningCase(tmp_path_factory.mktemp("status"))
    yield case
    case.close()


def role(status: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in status["roles"] if one["role"] == name]
    return found


def check(case: Path, *options: str) -> tuple[int, str]:
    done = mixserver_here("status", "--check", case, *options)
    return done.returncode, done.stdout + done.stderr


def test_a_server_whose_workers_are_on_their_way_is_healthy(running: RunningCase) -> None:
    status = running.until(lambda s: s["ipi"]["state"] == "connected")
    assert role(status, "expensive")["state"] == "awaited"
    assert role(status, "cheap")["state"] == "ok"
    assert (status["stage"], status["ipi"]["state"]) == ("running", "connected")
    assert check(running.case)[0] == 0
    code, said = check(running.case, "--max-age", "0.01")
    assert code == 1
    assert "no evaluation was answered" in said


def test_workers_and_steps_are_listed(running: RunningCase) -> None:
    running.start_worker("by-hand")
    status = running.until(lambda s: (s["ipi"]["step"] or 0) > 3 and s["ipi"]["eta_s"])
    (worker,) = [one for one in status["workers"] if one["name"] == "by-hand"]
    assert (worker["role"], worker["engine"], worker["dtype"]) == ("expensive", "toy", "float64")
    assert worker["host"] == os.uname().nodename
    assert worker["jobs"] > 3
    assert 0.0 < worker["mean_s"] < HANG_S
    evaluations = status["evaluations"]
    assert evaluations["total"] > status["ipi"]["step"]
    assert evaluations["per_s"] > 0.0
    assert evaluations["core"] > 0
    assert status["ipi"]["total_steps"] == 1000000
    assert (status["healthy"], status["problems"]) == (True, ())
    shown = mixserver("status", running.case).stdout
    assert "by-hand" in shown
    assert "of 1000000" in shown
    assert mixserver("status", folder=running.case).stdout.count("by-hand") == 1


def test_prometheus_can_scrape_it(running: RunningCase) -> None:
    log = (running.case / "runs/latest/server.log").read_text()
    address = re.search(r"http://[\d.:]+/metrics", log)
    assert address is not None
    with urllib.request.urlopen(address[0], timeout=HANG_S) as answer:  # noqa: S310
        families = {m.name: m for m in text_string_to_metric_families(answer.read().decode())}
    status = running.status()

    def value(family: str, sample: str = "", **labels: str) -> float:
        (found,) = [
            one.value
            for one in families[family].samples
            if one.name == (sample or family) and labels.items() <= one.labels.items()
        ]
        return found

    total = value("mixserver_evaluations", "mixserver_evaluations_total")
    assert 0 < total <= status["evaluations"]["total"]
    for part in ("total", "cheap", "expensive", "own"):
        name = "mixserver_evaluation_seconds"
        count = value(name, f"{name}_count", part=part)
        assert count == value(name, f"{name}_bucket", part=part, le="+Inf") == total
        assert value(name, f"{name}_sum", part=part) > 0.0
    assert value("mixserver_healthy") == 1.0
    assert sum(one.value for one in families["mixserver_workers"].samples) == 2
    assert value("mixserver_region_atoms", part="core") > 0
    made = value("mixserver_last_evaluation_timestamp_seconds")
    assert abs(made - time.time()) < HANG_S
    jobs = value("mixserver_worker_jobs", "mixserver_worker_jobs_total", worker="by-hand")
    assert total <= jobs <= total + 3  # energy offsets, and one that is not mixed yet
    for family in families.values():
        assert family.name.startswith("mixserver")
        assert family.documentation


def test_the_log_on_the_terminal_is_json_lines(running: RunningCase) -> None:
    lines = (running.case.parent / "log").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"worker joined", "progress"} <= {event["event"] for event in events}
    (first, *_) = [event for event in events if event["event"] == "progress"]
    assert first["total_steps"] == 1000000


def test_a_killed_last_worker_makes_it_unhealthy_and_another_one_heals_it(
    running: RunningCase,
) -> None:
    running.workers[0].kill()
    status = running.until(lambda s: not s["healthy"])
    assert role(status, "expensive")["state"] == "starved"
    assert status["counts"]["lost"] >= 1
    code, said = check(running.case)
    assert code == 1
    assert "no expensive worker is alive and on time" in said
    assert "by-hand" in said
    done = status["evaluations"]["total"]
    running.start_worker("second")
    status = running.until(lambda s: s["healthy"] and s["evaluations"]["total"] > done)
    assert check(running.case)[0] == 0
    printed = json.loads(mixserver("status", running.case, "--json").stdout)
    assert printed.keys() >= status.keys()


def test_one_of_two_workers_stopped_is_degraded_and_healthy(running: RunningCase) -> None:
    running.start_worker("third")
    running.until(lambda s: role(s, "expensive")["healthy"] == 2)
    running.workers[-1].send_signal(signal.SIGSTOP)
    status = running.until(lambda s: role(s, "expensive")["state"] == "degraded")
    assert [w["state"] for w in status["workers"] if w["name"] == "third"] == ["silent"]
    assert check(running.case)[0] == 0
    running.workers[-1].send_signal(signal.SIGCONT)
    running.until(lambda s: role(s, "expensive")["state"] == "ok")


def test_a_server_that_hangs_is_not_reachable(running: RunningCase) -> None:
    running.server.send_signal(signal.SIGSTOP)
    code, said = check(running.case, "--timeout", "0.5")
    assert code == 2
    assert "no answer from" in said
    running.server.send_signal(signal.SIGCONT)
    running.until(lambda s: s["healthy"])


def test_a_watch_ends_with_its_server_and_a_killed_server_is_named(running: RunningCase) -> None:
    with subprocess.Popen(
        [BIN / "mixserver", "status", running.case, "--watch", "--timeout", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert "running" in watching.stdout.readline()
        running.server.kill()
        _, said = watching.communicate(timeout=HANG_S)
        assert watching.returncode == 2
        assert said.startswith("Error: ")
    code, said = check(running.case)
    assert code == 2
    assert "was killed" in said


def test_a_finished_run_leaves_nothing_to_ask(tmp_path: Path) -> None:
    case = minimal_case(tmp_path)
    mixserver_done("run", case, "--steps", "2", "--quiet")
    left = {path.name for path in (case / "runs/0001").iterdir()}
    assert not left & {"status.sock", "status.json", ".running"}
    code, said = check(case)
    assert code == 2
    assert "is over" in said
