"""The folders of a case's runs: their numbers, their locks, and which run continues which.

Every run has a `run.json` with its origin and its models.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError

RUN_INFO: Final = "run.json"
RESTART_INPUT: Final = "RESTART.in"
"""In the folder of a restarted run: the RESTART or checkpoint that it continues."""
_LATEST: Final = "latest"
_RECORDS: Final = "mixserver.jsonl"
_LOCK: Final = ".running"
_LONGEST_CHAIN: Final = 10_000


class RestartOrigin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The origin of a restarted run."""

    run: str
    """The earlier run's folder, relative to this run's where they are neighbours."""
    file: str = ""
    """The file i-PI starts from; "" if i-PI was started by hand."""
    step: int | None = None
    """Steps already made, by that file; None if unknown."""


class RunModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that was used in a run."""

    name: str
    fingerprint: str


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Origin and models of a run, as kept in run.json."""

    version: int = 1
    restarted_from: RestartOrigin | None = None
    models: dict[str, RunModel] = {}
    """By role, once their workers have joined."""
    atoms: str = ""
    """Digest of the elements, in their order, and of the periodic axes."""
    versions: dict[str, str] = {}
    """Of mixserver and i-PI."""
    ended: str = ""
    """How it ended: "done", "stopped", "the time is up" or "failed: WHY"; "" if that is unknown."""

    def write(self, folder: Path) -> None:
        """Write it into a run's folder, atomically.

        Raises:
            OSError: the file cannot be written.
        """
        write_atomically(folder / RUN_INFO, msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def note_end(folder: Path, ended: str) -> None:
    """Note in a run's folder how it ended; a folder that cannot be written is passed over."""
    with contextlib.suppress(OSError, ConfigError):
        about = read_run_info(folder)
        msgspec.structs.replace(about or RunInfo(), ended=ended).write(folder)


def program_versions() -> dict[str, str]:
    """The versions of the programs that define a run besides its models."""
    found = {}
    for name in ("mixserver", "ipi"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def read_run_info(folder: Path) -> RunInfo | None:
    """What `RunInfo.write` wrote into a run's folder; None if it was never written.

    Raises:
        ConfigError: it cannot be read or is something else.
    """
    file = folder / RUN_INFO
    try:
        return msgspec.json.decode(file.read_bytes(), type=RunInfo)
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


def is_run_folder(folder: Path) -> bool:
    """Whether it was made by `new_run_folder`; `folder` may also be the link to the latest.

    A case's folder may have a number as its name, too, but has no link to the latest beside it.
    """
    place = folder.resolve()
    return _numbered(place.name) and place.is_dir() and (place.parent / _LATEST).is_symlink()


def run_chain(folder: Path) -> list[Path]:
    """A run and the runs that it continues, oldest first.

    Raises:
        ConfigError: one of them no longer exists, or they form a circle.
    """
    found = [folder]
    seen = {folder.resolve()}
    while (about := read_run_info(found[-1])) is not None and about.restarted_from is not None:
        before = found[-1] / about.restarted_from.run
        if not before.is_dir():
            raise ConfigError(
                f"{found[-1]} continues {before}, which no longer exists; put it back, or set "
                f"restarted_from to null in {found[-1] / RUN_INFO} "
                "(`drift` and `plot` take --alone)"
            )
        if not any((before / name).exists() for name in (RUN_INFO, _RECORDS)):
            break  # i-PI was started from a copy in another place
        if before.resolve() in seen or len(found) > _LONGEST_CHAIN:
            raise ConfigError(f"{found[-1] / RUN_INFO}: the runs continue each other in a circle")
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
            f"no folder for this run can be made in {parent}: {error.strerror}{_owner(parent)}. "
            "Runs go elsewhere with --runs DIR, or with [record] folder in mix.toml"
        ) from error
    return folder


def _owner(parent: Path) -> str:
    """Whose folder it is, if another user's: in a container that is often the reason."""
    existing = next((place for place in (parent, *parent.parents) if place.exists()), parent)
    try:
        owner = existing.stat().st_uid
    except OSError:
        return ""
    if owner == os.getuid():
        return ""
    return f" ({existing} belongs to the user {owner}, this process to {os.getuid()})"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Mark the folder as that of a running run inside this context."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # this file system has no locks
            handle = stack.enter_context((folder / _LOCK).open("w", encoding="ascii"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it must not hide why the run ended
                (folder / _LOCK).unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether a run is still running in this folder."""
    try:
        with (folder / _LOCK).open("r", encoding="ascii") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def was_killed(folder: Path) -> bool:
    """Whether the run in this folder was killed."""
    return (folder / _LOCK).exists() and not is_running(folder)


def _numbered(name: str) -> bool:
    return name.isascii() and name.isdigit()
