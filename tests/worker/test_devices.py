"""One worker per device: real processes that believe in devices which are not there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog
from limits import HANG_S
from mixserver_worker.devices import parse_devices

from mixserver.core.errors import ConfigError
from mixserver.core.processes import environment_program
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.dispatch.policy import Policy
from mixserver.dispatch.zmq_workers.listener import ZmqListener


@pytest.mark.parametrize(
    ("text", "visible", "found"),
    [
        ("0", None, [("0", "0")]),
        ("1, 3", None, [("1", "1"), ("3", "3")]),
        ("0,1", "4,6", [("0", "4"), ("1", "6")]),
        ("0", "GPU-aa,GPU-bb", [("0", "GPU-aa")]),
        ("GPU-aa", "0", [("GPU-aa", "GPU-aa")]),
    ],
)
def test_devices_are_counted_among_those_that_are_visible(
    text: str, visible: str | None, found: list[tuple[str, str]]
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert parse_devices(text, environment) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected different devices"),
        ("0,,1", "expected different devices"),
        ("1,1", "expected different devices"),
        ("cuda:0", "neither a number nor a UUID"),
        ("2", "only 2 devices are visible here"),
    ],
)
def test_what_is_no_device_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_devices(text, {"CUDA_VISIBLE_DEVICES": "4,6"})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Dispatcher, str]]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    policy = Policy(roles={"cheap": ""}, patience_s=2.0, heartbeat_s=0.2)
    listener = ZmqListener("tcp://127.0.0.1:0", policy)
    async with Dispatcher(policy, [listener]) as dispatcher:
        yield dispatcher, listener.address


def start(address: str, *options: str) -> subprocess.Popen[str]:
    command = [environment_program("mixserver-worker"), "toy", "--gpu", "0,2", "--name", "node"]
    return subprocess.Popen(
        [sys.executable, *command, "--server", address, *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "5,6,7"},
    )


def children(parent: int) -> dict[str, int]:
    """The running children of a process by their CUDA_VISIBLE_DEVICES."""
    found: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            environment = (process / "environ").read_text().split("\0")
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            devices = [e for e in environment if e.startswith("CUDA_VISIBLE_DEVICES=")]
            found[devices[0].partition("=")[2]] = int(process.name)
    return found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.02)


async def test_each_device_has_a_worker_that_is_started_again_until_a_signal(
    server: tuple[Dispatcher, str],
) -> None:
    dispatcher, address = server

    def names() -> list[str]:
        return sorted(view.name for view in dispatcher.workers())

    parent = start(address)
    try:
        await until(lambda: names() == ["node-0", "node-2"])
        before = children(parent.pid)
        assert sorted(before) == ["5", "7"]
        os.kill(before["5"], signal.SIGKILL)
        await until(lambda: names() == ["node-2"])
        await until(lambda: names() == ["node-0", "node-2"])
        after = children(parent.pid)
        assert after["7"] == before["7"]
        assert after["5"] != before["5"]
        parent.send_signal(signal.SIGTERM)
        _, err = await asyncio.to_thread(parent.communicate, timeout=HANG_S)
        assert parent.returncode == 0
        assert "node-0 was ended by signal 9: starting it again in 1 s" in err
        await until(lambda: not names())
    finally:
        parent.kill()
        parent.communicate()


async def test_workers_end_with_their_parent(server: tuple[Dispatcher, str]) -> None:
    dispatcher, address = server
    parent = start(address)
    try:
        await until(lambda: len(dispatcher.workers()) == 2)
    finally:
        parent.kill()
        parent.communicate()
    await until(lambda: not dispatcher.workers())


async def test_a_device_whose_worker_never_works_is_given_up(
    server: tuple[Dispatcher, str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from mixserver_worker import devices\n"
        "devices._ATTEMPTS, devices._LONGEST_WAIT_S = 2, 0.1\n"
    )
    _, address = server
    command = [environment_program("mixserver-worker"), "toy", "--gpu", "0", "--role", "expensive"]
    parent = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *command, "--server", address],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert parent.returncode == 1
    assert parent.stderr.count("this server uses only: cheap") == 2, "the reason of every failure"
    assert "ended with status 1, 2 times in a row: given up" in parent.stderr
