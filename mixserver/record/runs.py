"""The folders of a case's runs: their numbers, who lives in them, which goes on from which.

Every run keeps a `run.json`: from what it went on, and which models answered it.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mixserver.errors import ConfigError
from mixserver.whole import write_whole

ABOUT: Final = "run.json"
CONTINUED: Final = "RESTART.in"
"""In the folder of a run that goes on from another: what it goes on from."""
_LATEST: Final = "latest"
_RECORDS: Final = "mixserver.jsonl"
_LOCK: Final = ".running"
_LONGEST_CHAIN: Final = 10_000


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where a run goes on."""

    run: str
    """The earlier run's folder, relative to this run's where they are neighbours."""
    file: str = ""
    """Which of its files i-PI starts from; "" where i-PI was started by hand."""
    step: int | None = None
    """Steps made already, by that file; None where that is not known."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that answered a run."""

    name: str
    fingerprint: str


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept about a run besides its records, from its beginning."""

    version: int = 1
    restarted_from: Origin | None = None
    models: dict[str, Model] = {}
    """By role, once their workers have introduced themselves."""

    def write(self, folder: Path) -> None:
        """Write it into a run's folder, all of it or nothing.

        Raises:
            OSError: the file cannot be written.
        """
        write_whole(folder / ABOUT, msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def read_about(folder: Path) -> About | None:
    """What `About.write` wrote into a run's folder; None if it was never written.

    Raises:
        ConfigError: it cannot be read or is something else.
    """
    file = folder / ABOUT
    try:
        return msgspec.json.decode(file.read_bytes(), type=About)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{file} must be what mixserver wrote at the beginning of that run, but {error}; "
            "delete it, and its models are not compared"
        ) from error


def run_folders(parent: Path) -> list[Path]:
    """The runs in a folder, by number: 10000 comes after 9999."""
    try:
        found = [p for p in parent.iterdir() if _numbered(p.name)]
    except OSError:
        return []
    return sorted((p for p in found if p.is_dir()), key=lambda p: int(p.name))


def chain(folder: Path) -> list[Path]:
    """A run and the runs it goes on from, oldest first.

    Raises:
        ConfigError: one of them is gone, or they go round in a circle.
    """
    found = [folder]
    seen = {folder.resolve()}
    while (about := read_about(found[-1])) is not None and about.restarted_from is not None:
        before = found[-1] / about.restarted_from.run
        if not before.is_dir():
            raise ConfigError(
                f"{found[-1]} continues {before}, which is not there any more; put it back, or set "
                f"restarted_from to null in {found[-1] / ABOUT} (`drift` and `plot` take --alone)"
            )
        if not any((before / name).exists() for name in (ABOUT, _RECORDS)):
            break  # i-PI was started from a copy that lies elsewhere
        if before.resolve() in seen or len(found) > _LONGEST_CHAIN:
            raise ConfigError(f"{found[-1] / ABOUT}: the runs continue each other in a circle")
        seen.add(before.resolve())
        found.append(before)
    return found[::-1]


def new_run_folder(parent: Path) -> Path:
    """Make the next of parent/0001, parent/0002, ... and point parent/latest at it.

    Several processes may do so at once: each gets a folder of its own.

    Raises:
        ConfigError: the folder cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(p.name) for p in parent.iterdir() if _numbered(p.name)), default=0)
        while True:
            number += 1
            folder = parent / f"{number:04d}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            break
        new = parent / f".{_LATEST}.{folder.name}"
        new.unlink(missing_ok=True)
        new.symlink_to(folder.name)
        new.replace(parent / _LATEST)
    except OSError as error:
        raise ConfigError(
            f"no folder for this run can be made in {parent}: {error.strerror}. Runs go elsewhere "
            "with --runs DIR, or with [record] folder in mix.toml"
        ) from error
    return folder


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Let others see, inside this context, that a run is still going on in its folder."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # this file system has no locks
            handle = stack.enter_context((folder / _LOCK).open("w", encoding="ascii"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)


def is_occupied(folder: Path) -> bool:
    """Whether a process is inside `occupied` with this folder."""
    try:
        with (folder / _LOCK).open("r", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def was_killed(folder: Path) -> bool:
    """Whether a process ended inside `occupied` with this folder without leaving it."""
    return (folder / _LOCK).exists() and not is_occupied(folder)


def _numbered(name: str) -> bool:
    return name.isascii() and name.isdigit()
