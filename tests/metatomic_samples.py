"""Small metatomic models, made and exported here so that tests need nothing from outside."""

import math
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035 - TorchScript wants these

import torch
from mixserver_worker.engines.metatomic.model import quiet

with quiet():
    from metatensor.torch import Labels, TensorBlock, TensorMap
    from metatomic.torch import (
        AtomisticModel,
        ModelCapabilities,
        ModelMetadata,
        ModelOutput,
        NeighborListOptions,
        System,
    )

SPECIES = [1, 6, 14]
CUTOFF = 3.6
"""Å."""
BOHR, HARTREE = 0.529177210903, 27.211386245988
LAYERS = 2


class Messages(torch.nn.Module):
    """Two layers of messages along neighbours, with energies of about 1 eV.

    Edge vectors come from the neighbour list, from positions and cell, or one layer from each. A
    half list is completed. "detached" and "no stress" are models that lose a part of the gradient.
    """

    def __init__(
        self, cutoff: float, energy: float, use: str, full_list: bool, name: str, per_atom: bool
    ) -> None:
        super().__init__()
        self.cutoff, self.energy, self.use, self.name = cutoff, energy, use, name
        self.full_list, self.per_atom = full_list, per_atom
        self.options = NeighborListOptions(cutoff, full_list, True, "messages")
        torch.manual_seed(5)
        self.register_buffer("embedding", torch.rand(100, 4, dtype=torch.float64) + 0.5)
        self.register_buffer("mixing", torch.randn(4, 4, dtype=torch.float64))

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return [self.options]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        values: List[torch.Tensor] = []  # noqa: UP006
        rows: List[torch.Tensor] = []  # noqa: UP006
        for index, system in enumerate(systems):
            block = system.get_neighbor_list(self.options)
            pairs = block.samples.values
            first, second = pairs[:, 0].to(torch.int64), pairs[:, 1].to(torch.int64)
            images = pairs[:, 2:].to(system.positions.dtype)
            listed = block.values.reshape(-1, 3)
            cell = system.cell
            if self.use == "no stress":
                cell = cell.detach()
            moved = system.positions[second] - system.positions[first] + images @ cell
            if not self.full_list:
                first, second = torch.cat((first, second)), torch.cat((second, first))
                listed = torch.cat((listed, -listed))
                moved = torch.cat((moved, -moved))
            x = self.embedding[system.types.to(torch.int64)].to(listed.dtype)
            for layer in range(2):
                vectors = moved
                if self.use == "neighbours" or (self.use == "both" and layer == 0):
                    vectors = listed
                if self.use == "detached" and layer == 0:
                    vectors = vectors.detach()
                r = torch.sqrt((vectors * vectors).sum(dim=1, keepdim=True)) / self.cutoff
                near = torch.clamp(1.0 - r, min=0.0) ** 4 * (1.0 + r)
                messages = near * torch.tanh(x[second] @ self.mixing.to(x.dtype))
                x = x + torch.zeros_like(x).index_add(0, first, messages)
            energies = self.energy * torch.tanh(0.3 * x.sum(dim=1))
            atoms = torch.arange(len(system), device=energies.device)
            if selected_atoms is not None:
                mine = selected_atoms.column("system") == index
                atoms = selected_atoms.column("atom")[mine].to(torch.int64).flip(0)
            values.append(energies[atoms])
            rows.append(torch.stack((torch.full_like(atoms, index), atoms), dim=1))
        energies = torch.cat(values)[:, None]
        samples = Labels(["system", "atom"], torch.cat(rows).to(torch.int32))
        if outputs[self.name].sample_kind == "system":
            energies = torch.stack([value.sum() for value in values])[:, None]
            indices = torch.arange(len(systems), device=energies.device)[:, None]
            samples = Labels(["system"], indices.to(torch.int32))
        none: List[Labels] = []  # noqa: UP006
        one = torch.zeros(1, 1, dtype=torch.int32, device=energies.device)
        block = TensorBlock(energies, samples, none, Labels(["energy"], one))
        return {self.name: TensorMap(Labels(["_"], one), [block])}


class WithCharge(Messages):
    """A model that wants another input."""

    def requested_inputs(self) -> Dict[str, ModelOutput]:  # noqa: UP006
        return {"charge": ModelOutput(unit="e", sample_kind="system")}


def export(file: Path, *, kind: Any = Messages, use: str = "both", **change: Any) -> str:
    """Write a model; `change` overrides what it states about itself."""
    atomic_units = change.pop("atomic_units", False)
    length, energy = (BOHR, HARTREE) if atomic_units else (1.0, 1.0)
    name = change.pop("output", "energy")
    per_atom = change.pop("per_atom", True)
    distance = change.pop("interaction_range", LAYERS * CUTOFF)
    module = kind(CUTOFF / length, 3.0 / energy, use, change.pop("full_list", True), name, per_atom)
    output = ModelOutput(
        unit=change.pop("unit", "Hartree" if atomic_units else "eV"),
        sample_kind="atom" if per_atom else "system",
    )
    stated = {
        "outputs": {name: output},
        "atomic_types": SPECIES,
        "interaction_range": math.inf if math.isinf(distance) else distance / length,
        "length_unit": "Bohr" if atomic_units else "angstrom",
        "supported_devices": ["cpu", "cuda"],
        "dtype": "float64",
    } | change
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        model = AtomisticModel(
            module.eval(), ModelMetadata(name="messages"), ModelCapabilities(**stated)
        )
        model.save(str(file))
    return str(file)
