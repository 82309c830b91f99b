"""A run whose workers are started elsewhere, as containers and batch systems start them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_here import mixserver_here
from command_line import BIN, INPUTS, minimal_case, mixserver
from limits import HANG_S

from mixserver.config import load_case
from mixserver.ipi.input import read_step


@pytest.fixture
def door(tmp_path: Path) -> Iterator[str]:
    """An address at which the workers of the minimal case look for a server, one after another."""
    address = f"ipc://{tmp_path}/door"
    workers = [
        subprocess.Popen(
            [
                BIN / "mixserver-worker",
                *(*local.command, "--role", local.role),
                *("--server", address, "--stay-s", "300"),
            ],
            stderr=subprocess.DEVNULL,
        )
        for local in load_case(INPUTS / "minimal").config.local
    ]
    yield address
    alive = [worker.poll() is None for worker in workers]
    for worker in workers:
        worker.terminate()
    assert alive == [True, True], "a worker ended with its server"
    assert [worker.wait(HANG_S) for worker in workers] == [0, 0]


def test_an_interrupted_run_is_resumed_with_the_same_workers(tmp_path: Path, door: str) -> None:
    case = minimal_case(tmp_path)
    command = ["run", case, "--no-local", "--door", door, "--resume", "--quiet"]
    endless = [BIN / "mixserver", *command, "--steps", "100000"]
    first = subprocess.Popen(endless, stderr=subprocess.DEVNULL)
    records = case / "runs/0001/mixserver.jsonl"
    deadline = time.monotonic() + HANG_S
    while not records.exists() or records.read_bytes().count(b"\n") < 5:
        assert first.poll() is None, "the run ended early"
        assert time.monotonic() < deadline, "the run made no steps"
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    assert first.wait(HANG_S) == 130
    steps = read_step(case / "runs/0001/RESTART") + 8
    done = mixserver(*command, "--steps", str(steps))
    assert done.returncode == 0, done.stderr
    origin = json.loads((case / "runs/0002/run.json").read_text())["restarted_from"]
    assert origin["run"] == "../0001"
    made = np.loadtxt(case / "runs/0002/simulation.out")[:, 0]
    assert made.tolist() == list(range(origin["step"] + 1, steps + 1))


def test_without_local_workers_an_address_is_needed(tmp_path: Path) -> None:
    done = mixserver_here("run", minimal_case(tmp_path), "--no-local")
    assert done.returncode == 1
    assert "no worker can evaluate the cheap model" in done.stderr
    again = mixserver_here("run", tmp_path / "case", "--resume", "--restart")
    assert again.returncode == 1
    assert "--restart, --resume and --supervise find the file" in again.stderr
