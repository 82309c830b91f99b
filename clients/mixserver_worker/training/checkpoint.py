"""Checkpoints: everything a training needs to go on as if it had never been interrupted."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Final

import msgspec

from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError
from mixserver.wire.training import TrainingJob

_FILE: Final = "checkpoint.pt"


def digest(job: TrainingJob) -> str:
    """Tells jobs apart: their settings and the content of their files, but not where they run."""
    total = hashlib.sha256()
    settings = msgspec.structs.replace(job, folder="", threads=1, checkpoint=1)
    total.update(msgspec.json.encode(settings))
    experts = [job.large, *([job.small] if job.small else [])]
    files = [*job.agreement.data, *(name for one in experts for name in one.data)]
    files += [one.model for one in experts if one.model]
    for name in files:
        try:
            with Path(name).open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
    return total.hexdigest()


def save(folder: Path, key: str, state: dict[str, Any]) -> None:
    """Write a checkpoint in one step: a kill leaves the old or the new one.

    Raises:
        ConfigError: it cannot be written.
    """
    import torch

    stream = io.BytesIO()
    torch.save({"key": key, **state}, stream)
    try:
        write_atomically(folder / _FILE, stream.getvalue())
    except OSError as error:
        raise ConfigError(
            f"{folder / _FILE} cannot be written ({error.strerror}); free disk space and start "
            "again: the last checkpoint is kept"
        ) from error


def load(folder: Path, key: str, device: str) -> dict[str, Any] | None:
    """The last checkpoint of the same job; None if there is none.

    Raises:
        ConfigError: it is of another job, or damaged.
    """
    import torch

    file = folder / _FILE
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"{file} is damaged ({error}); delete it to begin this training again"
        ) from error
    if state.get("key") != key:
        raise ConfigError(
            f"{file} is of a training with other settings or data; delete the folder {folder} to "
            "begin anew, or train in another one"
        )
    return state
