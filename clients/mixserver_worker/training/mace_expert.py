"""One MACE in training: its data, loss, optimiser, schedule and average, all by mace-torch."""

from __future__ import annotations

import argparse
import contextlib
import copy
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from ase import Atoms
from mace import data, modules, tools
from mace.tools import torch_geometric
from mace.tools.model_script_utils import configure_model
from mace.tools.scripts_utils import (
    LRScheduler,
    get_loss_fn,
    get_optimizer,
    get_params_options,
    get_swa,
)
from torch_ema import ExponentialMovingAverage

from mixserver.core.arrays import Mask
from mixserver.core.errors import ConfigError
from mixserver.wire.training import Keys, LabelErrors
from mixserver_worker.engines.mace.model import read_model
from mixserver_worker.training.coupling import Prediction

_HEAD: Final = "Default"
_SIMPLE: Final = (int, float, bool, str, list, tuple)


class MaceData:
    """Structures as mace-torch's graphs, and the batches of an epoch."""

    def __init__(self, graphs: Sequence[Any], batch: int, seed: int) -> None:
        self.graphs = list(graphs)
        self._batch, self._seed = batch, seed

    @property
    def batches(self) -> int:
        """Number of batches of an epoch."""
        return math.ceil(len(self.graphs) / self._batch)

    def epoch(self, epoch: int) -> Iterator[Any]:
        """Batches in an order that depends on the seed and the epoch alone."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        yield from torch_geometric.dataloader.DataLoader(
            self.graphs, batch_size=self._batch, shuffle=True, generator=generator
        )

    def endless(self, epoch: int, steps: int) -> Iterator[Any]:
        """As many batches as wanted, of epochs that nobody else has, for an epoch of another."""
        first = epoch * math.ceil(steps / self.batches)
        given = 0
        while given < steps:
            for batch in self.epoch(first):
                if given == steps:
                    return
                yield batch
                given += 1
            first += 1

    def all(self) -> Iterator[Any]:
        """Every structure once, in order."""
        yield from torch_geometric.dataloader.DataLoader(self.graphs, batch_size=self._batch)


class MaceExpert:
    """A MACE and everything that trains it."""

    def __init__(
        self,
        module: torch.nn.Module,
        arguments: argparse.Namespace,
        *,
        trained: bool,
        outputs: dict[str, bool],
        device: str,
    ) -> None:
        self.module = module.to(device)
        self.trained = trained
        self.arguments = arguments
        self._device, self._outputs = device, outputs
        self._loss = get_loss_fn(arguments, dipole_only=False, compute_dipole=False)
        self._stage = 1
        for parameter in self.module.parameters():  # mace_run_train saves them all as fixed
            parameter.requires_grad = trained
        if not trained:
            return
        self._optimiser = get_optimizer(arguments, get_params_options(arguments, self.module))
        self._schedule = LRScheduler(self._optimiser, arguments)
        self._swa = None
        if arguments.swa:
            self._swa, _ = get_swa(arguments, self.module, self._optimiser, [False])
        self._average = None
        if arguments.ema:
            self._average = ExponentialMovingAverage(
                self.module.parameters(), decay=arguments.ema_decay
            )

    @property
    def cutoff(self) -> float:
        """Å, of its graphs."""
        return cutoff_of(self.module)

    @property
    def parameters(self) -> int:
        """Number of parameters that are trained."""
        return sum(one.numel() for one in self.module.parameters() if one.requires_grad)

    def begin_epoch(self, *, stage: int, first: bool, validation: float) -> None:
        """Set the learning rate and the loss, as mace-torch's own loop does."""
        if not self.trained:
            return
        self._enter(stage)
        if first:
            return
        if stage > 1 and self._swa is not None:
            self._swa.scheduler.step()
        else:
            self._schedule.step(metrics=validation)

    def _enter(self, stage: int) -> None:
        self._stage = stage
        if stage > 1 and self._swa is not None:
            self._loss = self._swa.loss_fn

    def clear(self) -> None:
        """Forget the gradients of the last step."""
        self._optimiser.zero_grad(set_to_none=True)

    def loss(self, batch: Any) -> torch.Tensor:
        """The network's own loss of a labelled batch."""
        batch = batch.to(self._device)
        found: torch.Tensor = self._loss(pred=self._forward(batch, training=True), ref=batch)
        return found

    def step(self) -> None:
        """One step of the optimiser, with clipped gradients."""
        if self.arguments.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(
                self.module.parameters(), max_norm=self.arguments.clip_grad
            )
        self._optimiser.step()
        if self._average is not None:
            self._average.update()

    def predict(self, batch: Any, *, training: bool) -> Prediction:
        """Site energies and forces; differentiable in the parameters if `training`."""
        batch = batch.to(self._device)
        found = self.module(
            batch.to_dict(), training=training, compute_force=True, compute_stress=False
        )
        made = Prediction(found["node_energy"], found["forces"])
        return made if training else made.detached()

    def averaged(self) -> Any:
        """A context in which the parameters are their moving averages."""
        if self.trained and self._average is not None:
            return self._average.average_parameters()
        return contextlib.nullcontext()

    def validate(self, batches: Iterator[Any]) -> tuple[float, LabelErrors]:
        """The loss and the errors of labelled structures, by mace-torch's own measures."""
        loss, seen = tools.evaluate(
            model=self.module,
            loss_fn=self._loss,
            data_loader=batches,
            output_args=self._outputs,
            device=torch.device(self._device),
        )
        stress = seen.get("rmse_stress")
        return float(loss), LabelErrors(
            energy=float(seen["rmse_e_per_atom"]),
            forces=float(seen["rmse_f"]),
            stress=None if stress is None else float(stress),
        )

    def _forward(self, batch: Any, *, training: bool) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = self.module(
            batch.to_dict(),
            training=training,
            compute_force=self._outputs["forces"],
            compute_virials=self._outputs["virials"],
            compute_stress=self._outputs["stress"],
        )
        return found

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        if not self.trained:
            return {}
        made = {
            "module": copy.deepcopy(self.module.state_dict()),
            "optimiser": copy.deepcopy(self._optimiser.state_dict()),
            "schedule": _simple(self._schedule.lr_scheduler),
            "stage": self._stage,
        }
        if self._average is not None:
            made["average"] = _detached(self._average.state_dict())
        if self._swa is not None:
            made["swa"] = _simple(self._swa.scheduler)
        return made

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        if not self.trained:
            return
        self.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.lr_scheduler.__dict__.update(state["schedule"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._swa is not None:
            self._swa.scheduler.__dict__.update(state["swa"])
        self._enter(state["stage"])


def _detached(state: Any) -> Any:
    """A copy of the state of an average, which holds on to tensors with a history."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, list | tuple):
        return [_detached(one) for one in state]
    if isinstance(state, dict):
        return {key: _detached(value) for key, value in state.items()}
    return state


def _simple(schedule: Any) -> dict[str, Any]:
    """The numbers in the state of a schedule; functions in it come from its making."""
    return {k: v for k, v in schedule.state_dict().items() if v is None or isinstance(v, _SIMPLE)}


def graphs(
    frames: Sequence[Atoms], keys: Keys, numbers: Sequence[int], cutoff: float
) -> list[data.AtomicData]:
    """mace-torch's graphs of structures; those without some label have weight 0 for it."""
    names = data.KeySpecification(
        info_keys={"energy": keys.energy, "stress": keys.stress},
        arrays_keys={"forces": keys.forces},
    )
    table = tools.AtomicNumberTable(list(numbers))
    return [
        data.AtomicData.from_config(
            data.config_from_atoms(frame, key_specification=names, head_name=_HEAD),
            z_table=table,
            cutoff=cutoff,
            heads=[_HEAD],
        )
        for frame in frames
    ]


def environment_graphs(
    frames: Sequence[Atoms], masks: Sequence[Mask], numbers: Sequence[int], cutoff: float
) -> list[data.AtomicData]:
    """Graphs of structures without labels, with the mask of atoms that count."""
    made = graphs(frames, Keys(), numbers, cutoff)
    for graph, mask in zip(made, masks, strict=True):
        graph.counted = torch.from_numpy(np.ascontiguousarray(mask))
    return made


def least_squares_e0s(frames: Sequence[Atoms], keys: Keys) -> dict[int, float]:
    """Energies of free atoms (eV) by mace-torch's least squares fit."""
    names = data.KeySpecification(info_keys={"energy": keys.energy}, arrays_keys={})
    configurations = data.config_from_atoms_list(list(frames), key_specification=names)
    table = tools.AtomicNumberTable(sorted({int(n) for one in frames for n in one.numbers}))
    return {int(z): float(e) for z, e in data.compute_average_E0s(configurations, table).items()}


def new_network(
    arguments: argparse.Namespace,
    labelled: Sequence[Any],
    e0s: dict[int, float],
) -> tuple[torch.nn.Module, dict[str, bool]]:
    """A MACE with random parameters, and what its loss compares."""
    table = tools.AtomicNumberTable(sorted(e0s))
    energies = np.array([[e0s[z] for z in table.zs]])
    loader = torch_geometric.dataloader.DataLoader(labelled, batch_size=arguments.batch_size)
    arguments.compute_energy = arguments.compute_forces = True
    arguments.compute_dipole = arguments.compute_polarizability = False
    if arguments.compute_avg_num_neighbors:
        arguments.avg_num_neighbors = modules.compute_avg_num_neighbors(loader)
    logging.getLogger().setLevel(logging.WARNING)
    module, outputs = configure_model(arguments, loader, energies, None, [_HEAD], table, None)
    return module, outputs


def read_network(file: str) -> torch.nn.Module:
    """A MACE from a file, which is run by reading it."""
    found = read_model(file)
    if len(found.heads) > 1:
        raise ConfigError(
            f"{file} has {len(found.heads)} heads ({', '.join(found.heads)}); make a model of one "
            "of them with mace_select_head first"
        )
    module: torch.nn.Module = found.module
    return module


def cutoff_of(module: Any) -> float:
    """The cutoff (Å) of a model's graphs."""
    return float(module.r_max)


def e0s_of(module: Any) -> dict[int, float]:
    """The energies of free atoms (eV) in a model, by atomic number."""
    values = module.atomic_energies_fn.atomic_energies.double().reshape(-1)
    return {int(z): float(e) for z, e in zip(module.atomic_numbers, values, strict=True)}


def tie_scale(module: Any, other: Any) -> None:
    """Give a model the scale and shift of site energies of another one."""
    for name in ("scale", "shift"):
        own, source = getattr(module.scale_shift, name), getattr(other.scale_shift, name)
        own.data.copy_(source.detach().reshape(-1)[0].to(own.dtype).expand_as(own))
