"""Runs the training program, and follows what it tells."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from mixserver.core.errors import ConfigError, EvaluationError
from mixserver.core.processes import how_ended, start_process
from mixserver.distill.progress import StepProgress
from mixserver.wire.training import (
    Began,
    Epoch,
    Failed,
    Finished,
    TrainingJob,
    TrainingMessage,
)

log = structlog.get_logger(__name__)

_PROGRAM: Final = "mixserver_worker.training"
_LOOK_S: Final = 0.2
_GRACE_S: Final = 5.0
Tell = Callable[[str], None]


async def run_training(job: TrainingJob, progress: StepProgress, tell: Tell) -> Finished:
    """Train in a process of its own; an earlier start in the same folder, which exists, goes on.

    `tell` gets a line of text for each epoch.

    Raises:
        ConfigError: data, options or models do not allow it; the program says why.
        EvaluationError: the program was killed or failed; its last log lines are quoted.
    """
    folder = Path(job.folder)
    file, messages = folder / "job.json", folder / "messages.jsonl"
    file.write_bytes(msgspec.json.encode(job))
    messages.write_bytes(b"")
    process = await start_process(
        "training",
        [sys.executable, "-P", "-m", _PROGRAM, str(file), str(messages)],
        folder=folder,
        log_file=folder / "training.log",
        environment={"OMP_NUM_THREADS": str(job.threads), "PYTHONWARNINGS": "ignore"},
    )
    reader = _Reader(messages, job.epochs, progress, tell)
    try:
        while process.returncode is None:
            await asyncio.sleep(_LOOK_S)
            reader.read()
        reader.read()
    finally:
        await process.end(_GRACE_S, harmless=True)  # it goes on from its last checkpoint
    if reader.failed:
        raise ConfigError(reader.failed)
    if reader.finished is None:
        raise EvaluationError(
            f"the training {how_ended(process.returncode or 0)}; {process.quoted_log(6)}\n"
            "Started again, it goes on from its last checkpoint"
        )
    return reader.finished


class _Reader:
    """Reads the messages as they come."""

    def __init__(self, file: Path, epochs: int, progress: StepProgress, tell: Tell) -> None:
        self._file, self._epochs, self._progress, self._tell = file, epochs, progress, tell
        self._read = 0
        self.finished: Finished | None = None
        self.failed = ""

    def read(self) -> None:
        """Read what is new, but not a line that is still being written."""
        text = self._file.read_bytes()[self._read :]
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            match msgspec.json.decode(line, type=TrainingMessage):
                case Began(epoch=epoch) as began:
                    self._progress(epoch, self._epochs)
                    log.info("training", **msgspec.to_builtins(began))
                    for note in began.notes:
                        log.warning("training", note=note)
                case Epoch(epoch=epoch) as done:
                    self._progress(epoch + 1, self._epochs)
                    log.info("epoch", **msgspec.to_builtins(done))
                    self._tell(in_words(done))
                case Finished() as finished:
                    self._progress(self._epochs, self._epochs)
                    self.finished = finished
                case Failed(message=message):
                    self.failed = message


def in_words(epoch: Epoch) -> str:
    """One line about an epoch: errors of both, and how far they differ."""
    words = [f"epoch {epoch.epoch}"]
    for name, errors in (("large", epoch.large), ("small", epoch.small)):
        if errors is not None:
            words.append(
                f"{name} {1e3 * errors.energy:.1f} meV/atom {1e3 * errors.forces:.0f} meV/Å"
            )
    if epoch.agreement is not None:
        differ = epoch.agreement
        words.append(f"differ by {1e3 * differ.energy:.1f} meV {1e3 * differ.forces:.0f} meV/Å")
    return "; ".join(words)
