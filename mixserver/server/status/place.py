"""Where a server's status can be asked for: its address, and the note of it in the run's folder.

The default is an ipc socket in the run's folder; where that cannot be, in a private folder. The
note, status.json, names the address, so that a case or a run is enough to find it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from mixserver.config import load_case
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError, Unreachable
from mixserver.core.near_files import did_you_mean
from mixserver.server.runs import is_running, run_folders, was_killed
from mixserver.wire.address import check_worker_address

log = structlog.get_logger(__name__)

NOTE: Final = "status.json"
SOCKET: Final = "status.sock"
SETTING: Final = "status.address"
"""The key of mix.toml."""
_LONGEST_PATH: Final = 107
"""Bytes of a unix socket's path."""
_RUN_FILES: Final = ("run.json", "mixserver.jsonl")
"""A folder with any of these is a run's."""


class Note(msgspec.Struct, frozen=True):
    """What status.json says."""

    address: str
    host: str = ""
    """The server's machine."""
    pid: int = 0

    def hint(self) -> str:
        """What to do if no server answers at the address, in words; "" if that is not known."""
        if not self.address.startswith("ipc://") or self.host in ("", socket.gethostname()):
            return ""
        return (
            f". It was started on {self.host} and can be asked on that machine only; for others, "
            "give [status] in mix.toml a tcp:// address"
        )


@contextlib.contextmanager
def noted(folder: Path, address: str) -> Iterator[None]:
    """Have a note of the address in the run's folder inside this context."""
    file = folder / NOTE
    note = Note(address, socket.gethostname(), os.getpid())
    try:
        write_atomically(file, msgspec.json.encode(note) + b"\n")
    except OSError as error:
        log.warning(
            "the place of the status was not noted; ask for it by its address",
            file=str(file),
            address=address,
            error=str(error),
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def own_socket(folder: Path) -> Path | None:
    """The run's own socket; None if its path would be too long."""
    file = folder.resolve() / SOCKET
    return file if len(os.fsencode(file)) <= _LONGEST_PATH else None


def find(target: str) -> Note:
    """Where a target's status can be asked for.

    Args:
        target: an address, a case or its mix.toml, a run's folder, or a folder of runs.

    Raises:
        Unreachable: nothing runs there.
        ConfigError: it is none of these, or the case cannot be read.
    """
    if "://" in target:
        return Note(check_worker_address(target, "the address"))
    return _of_run(run_of(Path(target)))


def run_of(path: Path) -> Path:
    """The run that a path means: one that runs before others, the newest before older ones.

    Args:
        path: a case or its mix.toml, a run's folder, or a folder of runs.

    Raises:
        Unreachable: there are no runs.
        ConfigError: it is none of these, or the case cannot be read.
    """
    if not path.exists():
        near = did_you_mean(path) or (
            "; expected a case, a run's folder, or an address such as tcp://HOST:PORT"
        )
        raise ConfigError(f"{path} does not exist{near}")
    if path.is_dir() and any((path / name).is_file() for name in (NOTE, *_RUN_FILES)):
        return path
    is_case = path.is_file() or (path / "mix.toml").is_file()
    parent = load_case(path).runs if is_case else path
    runs = run_folders(parent)
    if not runs:
        raise Unreachable(
            f"{path} has no runs in {parent}; start one with mixserver run or serve (if its runs "
            "are elsewhere, give that folder)"
        )
    # a run that was killed may have left its note
    living = [run for run in runs if is_running(run)]
    asked = [run for run in living or runs if (run / NOTE).is_file()]
    return (asked or living or runs)[-1]


def _of_run(folder: Path) -> Note:
    file = folder / NOTE
    if was_killed(folder):
        raise Unreachable(f"the server of the run in {folder} was killed")
    try:
        note = msgspec.json.decode(file.read_bytes(), type=Note)
    except FileNotFoundError:
        state = "has no status (see its server.log)" if is_running(folder) else "is over"
        raise Unreachable(f"the run in {folder} {state}") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Unreachable(f"{file} cannot be read as the note of a server: {error}") from error
    # the folder may have another path here than where the server runs
    own = folder.resolve() / SOCKET
    return msgspec.structs.replace(note, address=f"ipc://{own}") if own.is_socket() else note
