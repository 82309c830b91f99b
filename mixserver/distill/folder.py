"""The folder of a distillation: named steps, each with what it depends on written beside its files.

A step is done when its marker says so for the very settings it would be made with now. Settings
that changed make the step again, and the steps that used its files; nothing else. A step that was
killed goes on with the files it left. Knows no step by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from mixserver.errors import ConfigError
from mixserver.whole import write_whole

log = structlog.get_logger(__name__)

MARKER: Final = "step.json"
"""In the folder of each step."""
_LOCK: Final = ".lock"
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*")


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a step is made with, and whether it is done."""

    settings: dict[str, Any]
    """As JSON has them."""
    files: dict[str, str]
    """sha256 of each file from outside that it reads."""
    needs: dict[str, str]
    """`outcome` of each step whose files it reads."""
    outcome: str = ""
    """Another one each time the step was finished; "" before."""
    stale: bool = False
    """Its files are being deleted."""

    def changes(self, new: _Marker) -> list[str]:
        """In words, why what was made with these is not what the new ones ask for."""
        words = ["it was about to be"] if self.stale else []
        for key in sorted({*self.settings, *new.settings}):
            before, now = self.settings.get(key), new.settings.get(key)
            if before != now:
                words += _difference(key, before, now)
        words += [
            f"the file {name} is another one"
            for name in sorted({*self.files, *new.files})
            if self.files.get(name) != new.files.get(name)
        ]
        words += [
            f"step {name} was made again"
            for name in sorted({*self.needs, *new.needs})
            if self.needs.get(name) != new.needs.get(name)
        ]
        return words


class Stage:
    """One step of a distillation."""

    def __init__(self, name: str, folder: Path, marker: _Marker, why: Sequence[str]) -> None:
        self.name = name
        self.folder = folder
        """Its files; it is there."""
        self.why = tuple(why)
        """In words, why it is made again, if it was made with other settings before."""
        self._marker = marker

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self._marker.outcome)

    @property
    def outcome(self) -> str:
        """Another one each time the step was finished; "" before."""
        return self._marker.outcome

    def finish(self) -> None:
        """Say that all files of the step are there. Does nothing if it was done."""
        if not self.done:
            self._marker = msgspec.structs.replace(self._marker, outcome=uuid.uuid4().hex)
            _write(self.folder / MARKER, self._marker)


class RunFolder:
    """Where a distillation keeps everything; see `open_folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps: dict[str, Stage] = {}

    def step(
        self,
        name: str,
        settings: Mapping[str, Any],
        *,
        needs: Sequence[str] = (),
        files: Mapping[str, Path] | None = None,
    ) -> Stage:
        """Find a step as it was left, or begin it.

        If it was made, or begun, with other settings, its files are deleted and it is begun anew.

        Args:
            name: of the step and its folder.
            settings: everything it depends on, by the names to be used in messages; Structs,
                numbers, text and lists and tables of them.
            needs: steps whose files it reads; each was asked for before, and is done.
            files: other files it reads, by the names to be used in messages.

        Raises:
            ConfigError: a file cannot be read, or a folder of that name is of something else.
            ValueError: the name is not fit for a folder, or a needed step is not done.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"a step's name is letters, digits, . _ and -, got {name!r}")
        unready = [need for need in needs if need not in self._steps or not self._steps[need].done]
        if unready:
            raise ValueError(f"step {name} needs {', '.join(unready)}, which is not done")
        new = _Marker(
            settings=msgspec.to_builtins(dict(settings), str_keys=True),
            files={key: _digest(file) for key, file in (files or {}).items()},
            needs={need: self._steps[need].outcome for need in needs},
        )
        new = _plain(new)
        stage = self._begin(name, new)
        self._steps[name] = stage
        return stage

    def _begin(self, name: str, new: _Marker) -> Stage:
        folder = self.folder / name
        file = folder / MARKER
        old = _read(file)
        if old is None and folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} holds files but no {MARKER}, so they are not of a distillation; move "
                "it away, or give the recipe another folder"
            )
        if old is None:
            folder.mkdir(parents=True, exist_ok=True)
            _write(file, new)
            return Stage(name, folder, new, ())
        why = old.changes(new)
        if not why:
            log.info("step is done" if old.outcome else "step goes on", step=name)
            return Stage(name, folder, old, ())
        log.info("step is made again", step=name, because=why)
        # a kill in between must not leave old files beside the new marker
        _write(file, msgspec.structs.replace(old, outcome="", stale=True))
        for entry in folder.iterdir():
            if entry.name == MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        _write(file, new)
        return Stage(name, folder, new, why)


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[RunFolder]:
    """The folder of a distillation, for this process alone.

    Args:
        folder: made if it is not there.

    Raises:
        ConfigError: it cannot be made, or another distillation is at work in it.
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
                f"{folder} is in use: another distillation (process {holder}) is at work in it. "
                "Wait for it, or give this recipe another folder"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield RunFolder(folder)
    finally:
        os.close(lock)  # which gives the lock back


def _difference(key: str, before: Any, now: Any) -> list[str]:
    """What changed, down to the innermost table."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            word
            for inner in sorted({*before, *now})
            if before.get(inner) != now.get(inner)
            for word in _difference(f"{key}.{inner}", before.get(inner), now.get(inner))
        ]
    return [f"{key} was {_short(before)}, is {_short(now)}"]


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(marker: _Marker) -> _Marker:
    """The marker as it comes back from its file, so that the two can be compared."""
    return msgspec.json.decode(msgspec.json.encode(marker), type=_Marker)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def _read(file: Path) -> _Marker | None:
    """The marker in a file; None if there is none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Marker)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{file} is no marker of a step ({error}); delete its folder, and it is made again"
        ) from error


def _write(file: Path, marker: _Marker) -> None:
    """Write a marker, whole or not at all."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(marker)))
