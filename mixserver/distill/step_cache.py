"""The run folder of a distillation: named steps, each cached with the settings it was made with.

A step is done when its marker file records so for the current settings. Changed settings repeat the
step and the steps that use its files, and no others. An interrupted step continues with the files
that it left.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog

from mixserver.core.errors import ConfigError
from mixserver.distill.step_marker import MARKER, StepMarker, read_marker, write_marker

log = structlog.get_logger(__name__)

_SECONDS: Final = "seconds.json"
_LOCK: Final = ".lock"
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*")


_Result = TypeVar("_Result")
_Result_co = TypeVar("_Result_co", covariant=True)


class Step:
    """The folder of one step, finished or in progress."""

    def __init__(self, name: str, folder: Path, marker: StepMarker, why: Sequence[str]) -> None:
        self.name = name
        self.folder = folder
        """Holds its files; exists."""
        self.why = tuple(why)
        """Why it is repeated, if it was made with other settings before."""
        self._marker = marker

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self._marker.outcome)

    @property
    def outcome(self) -> str:
        """A new random string each time the step is finished; "" before."""
        return self._marker.outcome

    def finish(self) -> None:
        """Mark the step as done: all its files exist. Has no effect if it is done already."""
        if not self.done:
            self._marker = msgspec.structs.replace(self._marker, outcome=uuid.uuid4().hex)
            write_marker(self.folder / MARKER, self._marker)


@dataclass(frozen=True, eq=False)
class Stage(Generic[_Result_co]):
    """A stage of a pipeline: its inputs, and what makes its result in a step's folder."""

    name: str
    settings: Mapping[str, Any]
    """Everything it depends on, by the names used in messages; Structs, numbers, text, and lists
    and tables of them."""
    run: Callable[[Step], Awaitable[_Result_co]]
    """Called for finished steps too: reads the existing files and makes the missing ones."""
    needs: tuple[str, ...] = ()
    """Steps whose files it reads; they must be finished."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Other files it reads, by the names used in messages."""


class RunFolder:
    """Where a distillation keeps everything; see `open_folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        """Wall time of each step, those of earlier starts included, in the order of execution."""
        self._steps: dict[str, Step] = {}

    async def execute(self, stage: Stage[_Result], *, timed: bool = True) -> _Result:
        """Run a stage in the folder of its step, and mark the step as done.

        If `timed`, `seconds` gets the time that the step took over all starts.

        Raises:
            ConfigError: as `step`.
            Exception: any error of the stage; the step then continues at the next start.
        """
        # on a thread: files may be long, and workers give up on a server that stays silent
        step = await asyncio.to_thread(
            self.step, stage.name, stage.settings, needs=stage.needs, files=stage.files
        )
        with self._timed(step) if timed else contextlib.nullcontext():
            result = await stage.run(step)
        step.finish()
        return result

    @contextlib.contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        file = step.folder / _SECONDS
        began, total = time.monotonic(), 0.0
        # the file may be damaged by a kill, which is no reason to stop
        with contextlib.suppress(OSError, ValueError):
            total = float(file.read_text())
        try:
            yield
        finally:
            if not step.done:
                total += time.monotonic() - began
                file.write_text(f"{total:.3f}\n")
            self.seconds[step.name] = total

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time spent inside this context to `seconds`, replacing an earlier value."""
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def step(
        self,
        name: str,
        settings: Mapping[str, Any],
        *,
        needs: Sequence[str] = (),
        files: Mapping[str, Path] | None = None,
    ) -> Step:
        """Find a step as it was left, or begin it; see `Stage` for the arguments.

        The files of a step that was made or begun with other settings are deleted.

        Raises:
            ConfigError: a file cannot be read, or the folder holds files of another origin.
            ValueError: the name is not fit for a folder, or a needed step is not done.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"a step's name is letters, digits, . _ and -, got {name!r}")
        unready = [need for need in needs if need not in self._steps or not self._steps[need].done]
        if unready:
            raise ValueError(f"step {name} needs {', '.join(unready)}, which is not done")
        new = StepMarker(
            settings=msgspec.to_builtins(dict(settings), str_keys=True),
            files={key: _digest(file) for key, file in (files or {}).items()},
            needs={need: self._steps[need].outcome for need in needs},
        )
        # as it comes back from its file, so that the two can be compared
        new = msgspec.json.decode(msgspec.json.encode(new), type=StepMarker)
        step = self._begin(name, new)
        self._steps[name] = step
        return step

    def _begin(self, name: str, new: StepMarker) -> Step:
        folder = self.folder / name
        file = folder / MARKER
        old = read_marker(file)
        if old is None and folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} holds files but no {MARKER}, so it does not belong to a distillation; "
                "move it away, or give the recipe another folder"
            )
        if old is None:
            folder.mkdir(parents=True, exist_ok=True)
            write_marker(file, new)
            return Step(name, folder, new, ())
        why = old.changes(new)
        if not why:
            log.info("step is done" if old.outcome else "step continues", step=name)
            return Step(name, folder, old, ())
        log.info("step is repeated", step=name, reason=why)
        # a kill in between must not leave old files beside the new marker
        write_marker(file, msgspec.structs.replace(old, outcome="", stale=True))
        for entry in folder.iterdir():
            if entry.name == MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        write_marker(file, new)
        return Step(name, folder, new, why)


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[RunFolder]:
    """Open the folder of a distillation, made if it is missing, and lock it for this process.

    Raises:
        ConfigError: it cannot be created, or another distillation uses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                f"{folder} is in use: another distillation (process {holder}) uses it. "
                "Wait for it, or give this recipe another folder"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield RunFolder(folder)
    finally:
        os.close(lock)  # releases the lock


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
