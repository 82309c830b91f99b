"""The training program as a process: what it makes, and that it can be killed at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mixserver_worker.training.checkpoint import digest, load
from training_samples import SMALL, job, run

from mixserver.core.errors import ConfigError
from mixserver.wire.training import (
    Agreement,
    Began,
    Epoch,
    ExpertJob,
    Finished,
    TrainingJob,
)

pytestmark = pytest.mark.mace


def _parameters(file: str) -> dict[str, Any]:
    from mixserver_worker.engines.mace.model import read_model

    state: dict[str, Any] = read_model(file).module.state_dict()
    return state


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingJob, Finished]:
    """A training that was not disturbed."""
    wanted = job(tmp_path_factory.mktemp("training"))
    began, *epochs, finished = run(wanted)
    assert isinstance(began, Began)
    assert began.structures["large, trained"] == 9
    assert [one.epoch for one in epochs if isinstance(one, Epoch)] == [0, 1, 2, 3]
    assert isinstance(finished, Finished)
    return wanted, finished


def test_the_same_result_after_a_kill(done: tuple[TrainingJob, Finished], tmp_path: Path) -> None:
    undisturbed = done[1]
    wanted = msgspec.structs.replace(done[0], folder=str(tmp_path / "training"))
    first = run(wanted, kill_after=2)  # its message comes before its checkpoint
    assert not isinstance(first[-1], Finished)
    began, *_, finished = run(wanted)
    assert isinstance(began, Began)
    assert began.epoch in (2, 3)
    assert isinstance(finished, Finished)
    for name, file in undisturbed.models.items():
        ours, theirs = _parameters(finished.models[name]), _parameters(file)
        assert all(bool((ours[key] == theirs[key]).all()) for key in theirs), name
    with pytest.raises(ConfigError, match="other settings"):
        load(Path(wanted.folder), digest(msgspec.structs.replace(wanted, seed=2)), "cpu")
    losses = [[one.loss for one in listed.history] for listed in (finished, undisturbed)]
    assert losses[0] == losses[1]


def test_energies_of_free_atoms_and_scales_are_tied(done: tuple[TrainingJob, Finished]) -> None:
    large, small = (_parameters(done[1].models[name]) for name in ("large", "small"))
    for key in ("atomic_energies_fn.atomic_energies", "scale_shift.scale", "scale_shift.shift"):
        np.testing.assert_array_equal(large[key].ravel(), small[key].ravel())


def test_a_file_whose_parameters_are_saved_as_fixed_is_trained(
    done: tuple[TrainingJob, Finished], tmp_path: Path
) -> None:
    """As mace_run_train saves them."""
    import torch
    from mixserver_worker.engines.mace.model import quiet, read_model

    module = read_model(done[1].models["large"]).module
    for parameter in module.parameters():
        parameter.requires_grad = False
    file = tmp_path / "frozen.model"
    with quiet():
        torch.save(module, file)
    large = msgspec.structs.replace(done[0].large, model=str(file))
    wanted = msgspec.structs.replace(
        done[0], folder=str(tmp_path / "training"), large=large, epochs=1, stage_two=0
    )
    began, *_, finished = run(wanted)
    assert isinstance(began, Began)
    assert began.parameters["large"] > 0
    assert isinstance(finished, Finished)
    before, after = _parameters(str(file)), _parameters(finished.models["large"])
    assert any(bool((before[key] != after[key]).any()) for key in before)


@pytest.mark.physics
def test_agreement_with_a_fixed_model(done: tuple[TrainingJob, Finished], tmp_path: Path) -> None:
    """More weight on agreement, less difference; the fixed model stays as it is."""
    differ = {}
    for name, weight in (("tied", 1e4), ("free", 0.0)):
        data = done[0].agreement.data
        wanted = job(
            tmp_path / name,
            large=ExpertJob(model=done[1].models["large"], fixed=True),
            small=ExpertJob(data=data, options={**SMALL, "lr": 0.05}),
            agreement=Agreement(data=data, energy=weight, batch=5),
            epochs=25,
            stage_two=0,
        )
        *_, finished = run(wanted)
        assert isinstance(finished, Finished), finished
        assert list(finished.models) == ["small"]
        found = [one.agreement for one in finished.history if one.epoch == finished.best]
        assert found[0] is not None
        differ[name] = found[0].energy
    assert differ["tied"] < 0.5 * differ["free"]
