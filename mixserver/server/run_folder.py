"""Fills a run's folder: links to the case's files, copies of the files that define the run.

i-PI runs there. Relative paths in its input that would mean other files are made absolute, and its
outputs stay in the folder even if the input's prefix names another one. i-PI never writes to a file
of the case.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

import structlog

from mixserver.config import Case
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError
from mixserver.ipi.edit import apply_edits, output_prefix, text_elements, with_total_steps
from mixserver.server.energy_reference import ENERGY_REFERENCE
from mixserver.server.evidence import SPOT_CHECK
from mixserver.server.records.recorder import COLUMN_FILE, LAST_REGION, REGIONS, REPORTS
from mixserver.server.regions import REGION_STATE
from mixserver.server.runs import RESTART_INPUT, RUN_INFO
from mixserver.server.status.place import NOTE, SOCKET
from mixserver.server.warnings.warning_log import WARNINGS

log = structlog.get_logger(__name__)

_WRITTEN: Final = frozenset(
    {RUN_INFO, COLUMN_FILE, RESTART_INPUT, REGION_STATE, REGIONS, REPORTS, ENERGY_REFERENCE}
    | {
        NOTE,
        SOCKET,
        LAST_REGION,
        WARNINGS,
        "failed.xyz",
        SPOT_CHECK,
        "i-pi.log",
        "server.log",
        "temperature.out",
        "EXIT",
        "RESTART",
    }
)
"""Files that a run writes itself, and the file that ends i-PI: never taken from the case."""
_FILES: Final = frozenset(
    {"file", "positions", "velocities", "momenta", "masses", "labels", "cell", "gle", "A", "C"}
    | {"intraj", "pes_path", "init_file", "plumed_dat", "plumeddat", "hessian", "modes"}
)
"""Elements of i-PI's input that may be a file's name without a folder."""
_NOT_FILES: Final = frozenset({"address", "total_steps", "properties", "trajectory", "checkpoint"})
_PATH: Final = re.compile(rb"[^\s<>'\"={},:;\[\]()&]+")


def local_prefix(prefix: str) -> str:
    """The prefix of i-PI's outputs in a run's folder: the input's without folders."""
    name = os.path.basename(prefix.rstrip("/"))
    return name if name.strip(".") else "i-pi"


def fill_run_folder(case: Case, folder: Path, source: Path, name: str, steps: int | None) -> Path:
    """Fill a run's folder.

    Args:
        case: the case.
        folder: the run's, new.
        source: i-PI's input or RESTART.
        name: the name of its copy, which is returned.
        steps: total steps, instead of the input's.

    Raises:
        ConfigError: the input cannot be read, or the folder not be written.
    """
    try:
        text = source.read_bytes() if steps is None else with_total_steps(source, steps)
        text = _with_own_prefix(text, source)
        _link(case, folder, source, name, text)
        shutil.copyfile(case.file, folder / "mix.toml")
        (folder / name).write_bytes(relocated(text, source, folder))
    except OSError as error:
        raise ConfigError(
            f"the run's folder {folder} cannot be filled: {error.filename}: {error.strerror}"
        ) from error
    return folder / name


def restore_socket_prefix(folder: Path, private: str, usual: str) -> None:
    """Replace the run's private socket prefix in RESTART and checkpoints by the usual one.

    A file that cannot be written stays as it was; its age, by which the newest is found, stays too.
    """
    before, after = (f"'{prefix}'".encode() for prefix in (private, usual))
    for file in folder.iterdir():
        if file.is_symlink() or not (file.name == "RESTART" or ".chk" in file.name):
            continue
        try:
            text, times = file.read_bytes(), file.stat()
            if before in text:
                write_atomically(file, text.replace(before, after))
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        except OSError as problem:
            log.warning(
                "this file still has the private socket prefix of its run",
                file=str(file),
                error=str(problem),
            )


def _link(case: Case, folder: Path, source: Path, name: str, text: bytes) -> None:
    """Links to the case's files; copies of those that i-PI would write to."""
    records = (case.folder / case.config.record.folder).resolve()
    copied = {case.file.resolve(), source.resolve()}
    # a copy goes through a link of its name, onto the case's own file: the case may have a
    # mix.toml beside the one that is run
    taken = {"mix.toml", name, *(entry.name for entry in folder.iterdir())}
    prefix, _ = output_prefix(text, source)
    read = {word.decode("utf-8", "replace") for word in _PATH.findall(text)}
    for entry in sorted(case.folder.iterdir()):
        inside = entry.resolve() == records or records.is_relative_to(entry.resolve())
        if entry.name.startswith(".") or inside or entry.name in taken or entry.resolve() in copied:
            continue
        written = (
            entry.name in _WRITTEN
            or entry.name.startswith((f"{prefix}.", f"#{prefix}."))
            or (entry.name.startswith("worker-") and entry.name.endswith(".log"))
        )
        if not written or not entry.is_file():
            (folder / entry.name).symlink_to(entry.resolve())
        elif entry.name in read:  # i-PI reads it, and may then write a file of this name
            shutil.copyfile(entry, folder / entry.name)


def _with_own_prefix(text: bytes, source: Path) -> bytes:
    prefix, span = output_prefix(text, source)
    own = local_prefix(prefix)
    if own == prefix or span is None:
        return text
    log.warning(
        "i-PI's outputs lie in the run's own folder, without the folders of their prefix",
        prefix=prefix,
        became=own,
    )
    return apply_edits(text, [(*span, own.encode())])


def relocated(text: bytes, source: Path, folder: Path) -> bytes:
    """The input with absolute paths where a relative one would be another file in `folder`."""
    changes: list[tuple[int, int, bytes]] = []
    for tag, begin, end in text_elements(text, source):
        if tag in _NOT_FILES:
            continue
        whole = text[begin:end].strip()
        at = begin + text[begin:end].find(whole)
        found = _elsewhere(whole, tag in _FILES, source.parent, folder)
        if found is not None:
            changes.append((at, at + len(whole), found))
            continue
        for match in _PATH.finditer(text, begin, end):
            found = _elsewhere(match[0], tag == "parameters", source.parent, folder)
            if found is not None:
                changes.append((*match.span(), found))
    return apply_edits(text, changes)


def _elsewhere(word: bytes, named: bool, home: Path, folder: Path) -> bytes | None:
    """The absolute path of a file that is not the same from the run's folder."""
    if not word or len(word) > 1000 or b"\n" in word or b"&" in word:
        return None
    path = os.fsdecode(word)
    if os.path.isabs(path) or not (named or "/" in path):
        return None
    meant, there = home / path, folder / path
    if not meant.is_file() or (there.exists() and os.path.samefile(meant, there)):
        return None
    if there.is_file() and not there.is_symlink() and there.read_bytes() == meant.read_bytes():
        return None  # a copy, made because i-PI may write it
    return os.fsencode(os.path.abspath(meant))
