"""The training program is started and followed; what it refuses is told, and a stop ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.cotrain.training import in_words, run_training
from mixserver.wire.training import Disagreement, Epoch, ExpertJob, LabelErrors, TrainingJob


def _nobody(done: int, total: int) -> None:
    raise AssertionError(f"nothing was trained, and yet {done} of {total}")


@pytest.mark.mace
async def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    nowhere = ExpertJob(data=(str(tmp_path / "none.xyz"),))
    job = TrainingJob(engine="mace", folder=str(tmp_path), large=nowhere, epochs=1)
    async with asyncio.timeout(300):
        with pytest.raises(ConfigError, match=r"none\.xyz cannot be read"):
            await run_training(job, _nobody, print)


def test_an_epoch_in_words() -> None:
    epoch = Epoch(
        epoch=7,
        stage=1,
        seconds=1.0,
        loss=2.0,
        small=LabelErrors(energy=0.0123, forces=0.0456),
        agreement=Disagreement(energy=0.002, forces=0.034, spread=0.001),
    )
    assert in_words(epoch) == "epoch 7; small 12.3 meV/atom 46 meV/Å; differ by 2.0 meV 34 meV/Å"
