"""The script with which batch jobs keep a worker joined, wherever the server's job runs."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import BIN, minimal_case
from limits import HANG_S

SCRIPT = Path(__file__).parents[2] / "docker/deploy/slurm/join.sh"
pytestmark = pytest.mark.physics  # it polls every few seconds


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + HANG_S
    while not holds():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.1)


@contextlib.contextmanager
def serving(case: Path, port: int, log: Path) -> Iterator[None]:
    door = f"tcp://127.0.0.1:{port}"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [BIN / "mixserver", "serve", case, "--door", door], stdout=stream, stderr=stream
        )
        try:
            yield
        finally:
            server.terminate()
            server.wait(HANG_S)


def test_a_worker_stays_for_the_next_server_and_follows_it(tmp_path: Path) -> None:
    case, log = minimal_case(tmp_path), tmp_path / "join.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as stream:
        job = subprocess.Popen(
            [SCRIPT, "none", BIN / "mixserver-worker", "toy", "--name", "w"],
            stderr=stream,
            env={**os.environ, "CASE": str(case), "PORT": str(port)},
        )
    host = case / "server.host"

    def said(what: str) -> int:
        return len(re.findall(what, log.read_text()))

    try:
        host.write_text("127.0.0.1\n")
        for times in (1, 2):  # the server's job ends, and starts again on the same node
            with serving(case, port, tmp_path / f"serve-{times}.log"):
                until(lambda times=times: said("w joined tcp://127.0.0.1:") == times)
            host.unlink()
            until(lambda times=times: said("for another server") == times)
            host.write_text("127.0.0.1\n" if times == 1 else "localhost\n")
        with serving(case, port, tmp_path / "serve-3.log"):  # on another node
            until(lambda: said("w joined tcp://localhost:") == 1)
        (case / "server.done").touch()
        assert job.wait(HANG_S) == 0
    finally:
        job.terminate()
        job.wait(HANG_S)
