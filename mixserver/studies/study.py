"""A study: its tasks, their folders, and the results that are kept there.

A task has a folder of its own, runs/SIZE/NAME, and leaves result.json there, written atomically at
its end. A task that was killed has none, and is made again. Results are those of the parameters and
models in the same file: others are refused, never mixed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import re
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from mixserver.config import Case, Local, load_case
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError
from mixserver.studies.models import fingerprints, study_workers
from mixserver.studies.table import Table

RESULT: Final = "result.json"
PROGRESS: Final = "progress.json"
FAILURE: Final = "failure.txt"
LOG: Final = "task.log"
_LOCK: Final = ".running"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_EVERY_S: Final = 1.0
_NO_RESULT: Final = frozenset({"local", "workers", "record", "status", "warnings"})
"""Tables of mix.toml on which no result depends; models are compared by their own files."""

Values = dict[str, Any]
"""A task's result: numbers, texts, lists and dictionaries, as JSON holds them."""


@dataclass(frozen=True, slots=True)
class Task:
    """One independent part of a study."""

    name: str
    """A folder's name, unique in the study."""
    parameters: Mapping[str, Any]
    """All that its result depends on besides models and program, as JSON holds it."""
    roles: Sequence[str] = ("cheap", "expensive")
    """Of the study's models that it uses: with another model of another role its result stays."""


class Stopped(Exception):
    """The task was told to end before it was done."""


@dataclass(slots=True)
class TaskContext:
    """What a task's function gets."""

    task: Task
    folder: Path
    """Its own."""
    base: Case
    """The study's case."""
    workers: tuple[Local, ...]
    """The models, with absolute paths."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set on Ctrl-C: end in order and raise `Stopped`."""
    _told: float = 0.0

    def report(self, done: float, total: float) -> None:
        """Tell how far it is, for the progress display; cheap to call often."""
        now = time.monotonic()
        if total > 0.0 and (now > self._told + _EVERY_S or done >= total):
            self._told = now
            with contextlib.suppress(OSError):
                share = min(1.0, max(0.0, done / total))
                write_atomically(self.folder / PROGRESS, msgspec.json.encode(share))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a study finds."""

    tables: Sequence[Table]
    figures: Sequence[str] = ()
    """Names of the PNG files that were drawn, in the folder that `analyse` was given."""
    remarks: Sequence[str] = ()
    """Sentences below the tables."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study; its study.py makes one and gives it to `mixserver.cli.study.study_command`."""

    title: str
    script: Path
    """Its study.py; the study's folder is that file's."""
    plan: Callable[[str], Sequence[Task]]
    """The tasks of a size, "small" or "paper", the same at every call."""
    run: Callable[[TaskContext], Awaitable[Values]]
    """Makes one task's result; runs in a process of its own."""
    analyse: Callable[[Mapping[str, Values], Path], Outcome]
    """Tables and figures from the results of the tasks that are done, by name; figures go into the
    given folder."""
    cases: Callable[[str, Case, tuple[Local, ...], Path], Sequence[Case]] | None = None
    """The cases of a size written below a folder, one of each arm, to be checked before any task
    runs; None for no checks."""
    sizes: Sequence[str] = ("small", "paper")

    @property
    def folder(self) -> Path:
        """Where the study's case, models.toml and runs are."""
        return self.script.resolve().parent

    def base(self) -> Case:
        """The study's case.

        Raises:
            ConfigError: its mix.toml cannot be read.
        """
        return load_case(self.folder)

    def workers(self) -> tuple[Local, ...]:
        """The models: those of models.toml, or else of the case.

        Raises:
            ConfigError: a file is missing or wrong.
        """
        base = self.base()
        return study_workers(self.folder, base.config.local, base.folder)

    def tasks(self, size: str) -> Sequence[Task]:
        """The tasks of a size.

        Raises:
            ConfigError: no such size; two tasks of one name, or a name that is no folder's.
        """
        if size not in self.sizes:
            raise ConfigError(f"the sizes are {', '.join(self.sizes)}; there is no {size!r}")
        tasks = self.plan(size)
        names = [task.name for task in tasks]
        for name in names:
            if not _NAME.fullmatch(name) or names.count(name) > 1:
                raise ConfigError(
                    f"tasks need names of letters, digits and ._+- that differ; {name!r} does not"
                )
        return tasks


@dataclass(frozen=True, slots=True)
class Results:
    """The folder of one size of a study."""

    study: Study
    size: str
    runs: Path | None = None
    """Instead of the study's own folder `runs`."""

    @property
    def folder(self) -> Path:
        """Where the tasks' folders are."""
        return (self.runs or self.study.folder / "runs") / self.size

    def task_folder(self, task: Task) -> Path:
        """A task's own."""
        return self.folder / task.name

    def key(self, task: Task, made_with: Mapping[str, str]) -> Values:
        """What a result must have been made with."""
        unused = {"cheap", "expensive"} - set(task.roles)
        made_with = {name: value for name, value in made_with.items() if name not in unused}
        known: Values = msgspec.json.decode(
            msgspec.json.encode({"parameters": dict(task.parameters), "made_with": dict(made_with)})
        )
        return known

    def read(self, task: Task, made_with: Mapping[str, str]) -> Values | None:
        """The result of a task; None if it is not done.

        Raises:
            ConfigError: it was made with other parameters or models, or cannot be read.
        """
        file = self.task_folder(task) / RESULT
        try:
            stored = msgspec.json.decode(file.read_bytes())
            # results of earlier versions know less of what they were made with
            part = stored["made_with"] if "made_with" in stored else stored["models"]
            both = made_with.keys() & part.keys()
            made = {
                "parameters": stored["parameters"],
                "made_with": {name: part[name] for name in both},
            }
            values: Values = stored["values"]
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{file} is not what a task leaves ({error}); delete it to make the task again"
            ) from error
        wanted = self.key(task, {name: made_with[name] for name in both})
        if made != wanted:
            raise ConfigError(
                f"{file} was made with other settings: {_differences(made, wanted)}. Delete the "
                f"folder {file.parent} to make the task again, or use another --runs"
            )
        return values

    def write(self, task: Task, made_with: Mapping[str, str], values: Values) -> None:
        """Keep a task's result.

        Raises:
            OSError: it cannot be written.
        """
        stored = {**self.key(task, made_with), "values": values}
        text = msgspec.json.format(msgspec.json.encode(stored))
        write_atomically(self.task_folder(task) / RESULT, text + b"\n")

    def read_all(self, made_with: Mapping[str, str]) -> dict[str, Values]:
        """The results of the tasks that are done, by name, in the order of the plan.

        Raises:
            ConfigError: one of them was made with other settings.
        """
        read = {task.name: self.read(task, made_with) for task in self.study.tasks(self.size)}
        return {name: values for name, values in read.items() if values is not None}

    def progress(self, task: Task) -> float:
        """How far a task is that is not done, 0 to 1."""
        try:
            return float(msgspec.json.decode((self.task_folder(task) / PROGRESS).read_bytes()))
        except (OSError, msgspec.MsgspecError, ValueError, TypeError):
            return 0.0

    def failure(self, task: Task) -> str:
        """Why a task failed the last time; "" if it did not."""
        try:
            return (self.task_folder(task) / FAILURE).read_text(encoding="utf-8").strip()
        except OSError:
            return ""


def made_with(study: Study) -> dict[str, str]:
    """Fingerprints of what a study's results depend on besides parameters, as it is now.

    Those are the models by role, and the case's settings, structure and input for i-PI.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    base = study.base()
    # as written, without defaults: a new key of mix.toml changes no result, nor does where workers
    # are and what is recorded
    tables = tomllib.loads(base.file.read_text(encoding="utf-8"))
    kept = {name: table for name, table in tables.items() if name not in _NO_RESULT}
    parts = {"mix.toml": msgspec.json.encode(kept, order="sorted")}
    for name, file in (
        ("structure", base.structure),
        ("input", base.folder / base.config.ipi.input),
    ):
        try:
            parts[name] = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    digests = {name: hashlib.sha256(part).hexdigest()[:16] for name, part in parts.items()}
    return {**fingerprints(study.workers()), **digests}


@contextlib.contextmanager
def task_lock(folder: Path) -> Iterator[bool]:
    """Whether this process alone works in a task's folder, inside this context."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_running(folder: Path) -> bool:
    """Whether a process works in a task's folder."""
    if not (folder / _LOCK).exists():
        return False
    with task_lock(folder) as mine:
        return not mine


def _differences(made: Values, wanted: Values) -> str:
    return "; ".join(
        f"{table}.{key} {made[table].get(key)!r} then, {wanted[table].get(key)!r} now"
        for table in ("parameters", "made_with")
        for key in dict.fromkeys((*made[table], *wanted[table]))
        if made[table].get(key) != wanted[table].get(key)
    )
