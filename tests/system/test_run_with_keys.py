"""A run with keys and real workers: who is refused, in which words, and where secrets are seen."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_here import mixserver_here
from command_line import BIN, edit, minimal_case, mixserver_done
from limits import HANG_S

SECRET = re.compile(r'secret-key = "(\S{40})"')
TOY = ("toy", "--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "7.0", "--role", "cheap")
"""The cheap model of the minimal case."""


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def keys(*words: str | Path) -> None:
    assert mixserver_here("keys", *words).returncode == 0


class Running:
    """`mixserver run` of the minimal case at an address that other machines can reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.case = minimal_case(folder)
        self.keys = self.case / "keys"
        for name in ("node-1", "node-2", "old"):
            keys("new", name, "--keys", self.keys)
        keys("revoke", "old", "--keys", self.keys)
        keys("new", "stranger", "--keys", folder / "elsewhere")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.server = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        door = self.server.replace("127.0.0.1", "0.0.0.0")  # noqa: S104 - that is the point
        text = (self.case / "mix.toml").read_text()
        workers = f'[workers]\ndoor = "{door}"\nkeys = "keys"\n'
        (self.case / "mix.toml").write_text(text + workers)
        self.process = subprocess.Popen(
            [BIN / "mixserver", "run", self.case, "--steps", "1000000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.run = self.case / "runs" / "0001"
        until(lambda: self.steps() > 3)

    def steps(self) -> int:
        records = self.run / "mixserver.jsonl"
        assert self.process.poll() is None, self.process.communicate()[0]
        return len(records.read_text().splitlines()) if records.exists() else 0

    def events(self, event: str) -> list[dict[str, object]]:
        lines = (self.run / "server.log").read_text().splitlines()
        return [entry for line in lines if (entry := json.loads(line))["event"] == event]

    def worker(self, *options: str, key: str = "", environment: bool = False) -> list[str]:
        """The command of a worker that has a key or none."""
        words = [str(BIN / "mixserver-worker"), *(options or TOY), "--server", self.server]
        if key and not environment:
            words += ["--key", key, "--server-key", str(self.keys / "server.pub")]
        return words

    def secrets(self) -> set[str]:
        files = [*self.folder.rglob("*.key"), *Path("/tmp").glob("mixserver-*/local.key")]
        found = {SECRET.search(file.read_text()) for file in files}
        return {match[1] for match in found if match}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    scene = Running(tmp_path_factory.mktemp("keys"))
    yield scene
    scene.process.kill()
    scene.process.communicate()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "lets in only workers with keys: give --key FILE"),
        ("elsewhere/stranger.key", "refused this worker's key"),
        ("case/keys/old.key", "refused this worker's key"),
    ],
    ids=["no key", "unknown key", "revoked key"],
)
def test_who_has_no_key_of_the_list_is_told_so(running: Running, key: str, said: str) -> None:
    command = running.worker(key=str(running.folder / key) if key else "")
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    before = running.steps()
    until(lambda: running.steps() > before + 3)


def test_the_wrong_model_is_refused_in_spite_of_its_key(running: Running) -> None:
    other = (*TOY[:3], "--sigma", "3.3", "--cutoff", "7.0", "--role", "cheap")
    command = running.worker(*other, key=str(running.keys / "node-1.key"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 1
    assert "cheap model of this run is" in done.stderr
    until(lambda: running.events("worker rejected"))


def test_a_name_of_another_key_is_refused(running: Running) -> None:
    command = running.worker(key=str(running.keys / "node-1.key"))
    for name, why in (("cheap-0-0", "the key local"), ("node-2", "the key node-2")):
        done = subprocess.run(
            [*command, "--name", name],
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 1
        assert why in done.stderr
    assert not [e for e in running.events("worker lost") if e["worker"] == "cheap-0-0"]


def test_a_revoked_key_ends_its_worker_and_not_the_run(running: Running) -> None:
    files = {
        "MIXSERVER_KEY_FILE": str(running.keys / "node-2.key"),
        "MIXSERVER_SERVER_KEY_FILE": str(running.keys / "server.pub"),
    }
    worker = subprocess.Popen(
        [*running.worker(), "--name", "node-2"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **files},
    )
    try:
        until(lambda: [e for e in running.events("worker joined") if e["worker"] == "node-2"])
        mixserver_done("keys", "revoke", "node-2", "--keys", running.keys)
        _, said = worker.communicate(timeout=HANG_S)
    finally:
        worker.kill()
        worker.communicate()
    assert worker.returncode == 1
    assert "its key was revoked" in said
    before = running.steps()
    until(lambda: running.steps() > before + 3)


def test_each_is_logged_once_and_secrets_are_seen_nowhere(running: Running) -> None:
    secrets = running.secrets()
    assert len(secrets) >= 7  # of 4 keys, 2 servers, and local workers (of other runs, too)
    pids = [p for p in Path("/proc").glob("[0-9]*") if p.name != str(os.getpid())]
    seen = ""
    for pid in pids:
        for file in ("cmdline", "environ"):
            try:
                seen += (pid / file).read_text(errors="replace")
            except OSError:
                continue
    assert "local.key" in seen  # a name of a file, in the environment of a worker
    seen += "".join(
        file.read_text(errors="replace")
        for file in running.case.rglob("*")
        if file.is_file() and file.suffix != ".key" and not file.is_socket()
    )
    running.process.send_signal(signal.SIGINT)
    seen += running.process.communicate(timeout=HANG_S)[0]
    assert running.process.returncode == 130
    assert not [secret for secret in secrets if secret in seen]
    log = (running.run / "server.log").read_text()
    assert log.count("connection refused: its key is not on the list") == 2
    assert log.count('"connection refused in the handshake"') == 1
    assert log.count('"its key was revoked') == 1


def test_an_open_door_needs_keys_and_stock_protocols_a_word(tmp_path: Path) -> None:
    case = minimal_case(tmp_path)
    edit(case / "mix.toml", 'address = "unix:minimal"', 'address = "10.0.0.1:31415"')
    done = mixserver_here("check", case, "--quick")
    assert done.returncode == 1
    assert "upstream.insecure = true" in done.stderr
