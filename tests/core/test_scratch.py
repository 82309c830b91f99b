"""Private folders: gone at the end, and after a kill gone when the next one is made."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixserver.core.scratch import remove_stale, scratch_directory

OWNER = """
import socket, sys, time
from mixserver.core.scratch import scratch_directory
with scratch_directory() as folder:
    door = socket.socket(socket.AF_UNIX)
    door.bind(folder + "/door")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where temporary folders are made; a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="place-") as name:
        yield Path(name)


class Owner:
    """A process with a private folder in `place`, and a bound socket in that."""

    def __init__(self, place: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(place)},
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout
        self.folder = Path(self.out.readline().strip())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.out.close()


@pytest.fixture
def owner(place: Path) -> Iterator[Owner]:
    owner = Owner(place)
    yield owner
    owner.kill()


def test_a_private_folder_is_for_its_user_alone_and_goes_with_its_context(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with scratch_directory() as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        (Path(folder) / "worker.log").touch()
        assert remove_stale(place) == []
        assert (Path(folder) / "worker.log").exists()
    assert list(place.iterdir()) == []


def test_the_folder_of_a_killed_process_goes_when_the_next_is_made(
    place: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with scratch_directory() as mine:
        assert owner.folder.exists()  # it lives
        owner.kill()
        assert (owner.folder / "door").exists()
        with scratch_directory() as next_one:
            assert {str(folder) for folder in place.iterdir()} == {mine, next_one}


def test_what_may_be_in_use_stays(place: Path, owner: Owner) -> None:
    mine = owner.folder / "owner.pid"
    stranger = place / "mixserver-without-owner"
    (stranger / "deep").mkdir(parents=True)
    unfinished = place / "mixserver-unfinished"
    unfinished.mkdir()
    (unfinished / "owner.pid").touch()
    living = place / "mixserver-unlocked"  # as on a file system without locks
    living.mkdir()
    shutil.copy(mine, living)
    linked = place / "mixserver-link"
    owner.kill()
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(mine, elsewhere)
    linked.symlink_to(elsewhere)
    (living / "owner.pid").write_text(f"{os.getpid()}\n")
    with socket.socket(socket.AF_UNIX) as ending:  # i-PI that has not written its RESTART yet
        os.unlink(owner.folder / "door")
        ending.bind(str(owner.folder / "door"))
        assert remove_stale(place) == []
    assert remove_stale(place) == [owner.folder]
    kept = {stranger, stranger / "deep", unfinished, living, linked, elsewhere / "owner.pid"}
    assert kept <= set(place.rglob("*"))


def test_a_locked_folder_stays_whatever_its_process_id_says(place: Path, owner: Owner) -> None:
    (owner.folder / "door").unlink()
    os.rename(owner.folder, owner.folder.with_name("mixserver-moved"))  # so no socket protects it
    (place / "mixserver-moved/owner.pid").write_text("4194304\n")  # of no process on this machine
    assert remove_stale(place) == []
    owner.kill()
    assert remove_stale(place) == [place / "mixserver-moved"]
