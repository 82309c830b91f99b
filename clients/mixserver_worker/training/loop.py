"""The loop that trains two experts together; it can be killed at any time and goes on."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

from mixserver.core.atomic_write import atomic_writer
from mixserver.core.errors import ConfigError
from mixserver.wire.training import (
    Began,
    Disagreement,
    Epoch,
    Finished,
    LabelErrors,
    TrainingJob,
    TrainingMessage,
)
from mixserver_worker.training import checkpoint
from mixserver_worker.training.coupling import (
    Prediction,
    Weights,
    disagreement,
    measure,
    weights_at,
)
from mixserver_worker.training.experts import Pair, Shared, make_pair

Tell = Callable[[TrainingMessage], None]


def train(job: TrainingJob, tell: Tell) -> Finished:
    """Do a training, or what is left of it.

    Raises:
        ConfigError: data, options or models do not allow it, or the loss is no number any more.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = checkpoint.digest(job)
    state = checkpoint.load(folder, key, job.device)
    if state is not None and state["finished"] and all(Path(m).exists() for m in _files(job)):
        return msgspec.json.decode(state["finished"], type=Finished)
    loop = _Loop(job, make_pair(job))
    if state is not None:
        loop.restore(state)
    tell(loop.began())
    while not loop.over:
        tell(loop.epoch())
        if loop.over or loop.next % job.checkpoint == 0:
            checkpoint.save(folder, key, loop.state())
    finished = loop.write_models(folder)
    checkpoint.save(
        folder, key, {**loop.state(), "finished": msgspec.json.encode(finished).decode()}
    )
    return finished


def _files(job: TrainingJob) -> list[Path]:
    listed = [("large", job.large), *([("small", job.small)] if job.small else [])]
    return [Path(job.folder) / f"{name}.model" for name, one in listed if not one.fixed]


class _Loop:
    """The state of a training between two epochs."""

    def __init__(self, job: TrainingJob, pair: Pair) -> None:
        self._job, self._pair = job, pair
        self.next = 0
        """The epoch to do next."""
        self._second = job.stage_two or job.epochs
        """First epoch of stage two."""
        self._best, self._best_loss, self._waited = -1, math.inf, 0
        self._last_loss = math.inf
        self._kept: dict[str, Any] = {}
        """Parameters of the best epoch, by expert."""
        self._history: list[Epoch] = []
        self._why = ""
        if not pair.trainees:
            raise ConfigError("both experts are fixed: nothing is left to train")

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self._why)

    def began(self) -> Began:
        """What will be trained, and with what."""
        pair = self._pair
        counts = {}
        for one in (pair.large, pair.small):
            if one is not None and one.train is not None and one.valid is not None:
                counts[f"{one.name}, trained"] = len(one.train.graphs)
                counts[f"{one.name}, held out"] = len(one.valid.graphs)
        for name, shared in (("trained", pair.shared), ("held out", pair.held)):
            if shared is not None:
                counts[f"bulk, {name}"] = len(shared.small.graphs)
        return Began(
            epoch=self.next,
            structures=counts,
            parameters={one.name: one.expert.parameters for one in pair.trainees},
            e0s=pair.e0s,
            notes=pair.notes,
        )

    def epoch(self) -> Epoch:
        """Do one epoch, and measure."""
        began, epoch = time.monotonic(), self.next
        stage = 2 if epoch >= self._second else 1
        for one in self._pair.trainees:
            one.expert.begin_epoch(stage=stage, first=epoch == 0, validation=self._last_loss)
        weights = weights_at(self._job.agreement, epoch, stage=stage)
        for batches in self._batches(epoch):
            self._step(batches, weights)
        loss, errors, differ = self._validate(stage)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the validation loss of epoch {epoch} is {loss}: the training has diverged. Lower "
                "lr in the experts' options, or the weights of [agreement]"
            )
        made = Epoch(
            epoch=epoch,
            stage=stage,
            seconds=time.monotonic() - began,
            loss=loss,
            large=errors.get("large"),
            small=errors.get("small"),
            agreement=differ,
        )
        self._history.append(made)
        self._judge(loss, epoch, stage)
        return made

    def _batches(self, epoch: int) -> Iterator[tuple[list[Any], Any]]:
        """For each step: a labelled batch per trainee, and one of environments of both."""
        lead, *others = [one.train for one in self._pair.trainees if one.train is not None]
        steps = lead.batches
        streams = [lead.epoch(epoch), *(one.endless(epoch, steps) for one in others)]
        shared = self._pair.shared
        if shared is None:
            for own in zip(*streams, strict=True):
                yield list(own), None
            return
        both = zip(
            shared.large.endless(epoch, steps), shared.small.endless(epoch, steps), strict=True
        )
        for labelled, environments in zip(zip(*streams, strict=True), both, strict=True):
            yield list(labelled), environments

    def _step(self, batches: tuple[list[Any], Any], weights: Weights) -> None:
        own, environments = batches
        trainees = self._pair.trainees
        for one in trainees:
            one.expert.clear()
        for one, batch in zip(trainees, own, strict=True):
            (one.weight * one.expert.loss(batch)).backward()  # type: ignore[no-untyped-call]
        if weights and environments is not None:
            large, small, mask, _ = self._both(environments, training=True)
            disagreement(large, small, mask, weights).backward()  # type: ignore[no-untyped-call]
        for one in trainees:
            one.expert.step()

    def _both(
        self, environments: tuple[Any, Any], *, training: bool
    ) -> tuple[Prediction, Prediction, torch.Tensor, torch.Tensor]:
        pair, (for_large, for_small) = self._pair, environments
        if pair.small is None:
            raise ValueError("an expert alone has nobody to agree with")
        small = pair.small.expert.predict(for_small, training=training)
        if not pair.large.expert.trained:
            for_large = for_large.to(self._job.device)
            large = Prediction(for_large.kept_energies, for_large.kept_forces)
        else:
            drawn = training and self._job.agreement.mutual
            large = pair.large.expert.predict(for_large, training=drawn)
        mask = for_small.counted.to(self._job.device)
        return large, small, mask, for_small.node_attrs.argmax(dim=1)

    def _validate(self, stage: int) -> tuple[float, dict[str, LabelErrors], Disagreement | None]:
        """The loss with the full weights of the stage, and errors, of averaged parameters."""
        total, errors = 0.0, {}
        pair, trainees = self._pair, self._pair.trainees
        for one in trainees:
            if one.valid is not None and one.valid.graphs:
                with one.expert.averaged():
                    loss, errors[one.name] = one.expert.validate(one.valid.all())
                total += one.weight * loss
        if pair.small is None or pair.held is None:
            return total, errors, None
        with pair.large.expert.averaged(), pair.small.expert.averaged():
            differ = measure(self._pairs(pair.held))
        full = weights_at(self._job.agreement, self._job.epochs, stage=stage)
        if differ is not None:
            total += full.energy * differ.energy**2 + 3.0 * full.forces * differ.forces**2
        return total, errors, differ

    def _pairs(
        self, shared: Shared
    ) -> Iterator[tuple[Prediction, Prediction, torch.Tensor, torch.Tensor]]:
        for both in zip(shared.large.all(), shared.small.all(), strict=True):
            yield self._both(both, training=False)

    def _judge(self, loss: float, epoch: int, stage: int) -> None:
        """Keep the best parameters of a stage, and decide whether to go on."""
        self._last_loss = loss
        self.next = epoch + 1
        if epoch == self._second:  # other weights: losses cannot be compared
            self._best_loss, self._waited = math.inf, 0
        if loss < self._best_loss:
            self._best, self._best_loss, self._waited = epoch, loss, 0
            for one in self._pair.trainees:
                with one.expert.averaged():
                    self._kept[one.name] = copy.deepcopy(one.expert.module.state_dict())
        else:
            self._waited += 1
        if self.next >= self._job.epochs:
            self._why = "all epochs"
        elif self._job.patience and self._waited >= self._job.patience:
            if stage == 1 and self._second < self._job.epochs:
                self._second, self._waited = self.next, 0
            else:
                self._why = f"no better loss for {self._waited} epochs"

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "next": self.next,
            "second": self._second,
            "best": [self._best, self._best_loss, self._waited, self._last_loss],
            "kept": self._kept,
            "history": msgspec.json.encode(self._history).decode(),
            "why": self._why,
            "finished": "",
            "experts": {one.name: one.expert.state() for one in self._pair.trainees},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.next, self._second, self._why = state["next"], state["second"], state["why"]
        self._best, self._best_loss, self._waited, self._last_loss = state["best"]
        self._kept = state["kept"]
        self._history = msgspec.json.decode(state["history"], type=list[Epoch])
        for one in self._pair.trainees:
            one.expert.restore(state["experts"][one.name])

    def write_models(self, folder: Path) -> Finished:
        """Write the best parameters of each expert as a model file."""
        files = {}
        for one in self._pair.trainees:
            module = copy.deepcopy(one.expert.module)
            module.load_state_dict(self._kept[one.name])
            for parameter in module.parameters():
                parameter.grad = None
            file = folder / f"{one.name}.model"
            with atomic_writer(file) as stream:
                torch.save(module.cpu(), stream)
            files[one.name] = str(file)
        return Finished(best=self._best, why=self._why, models=files, history=tuple(self._history))
