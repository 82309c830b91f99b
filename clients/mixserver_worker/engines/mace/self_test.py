"""Reference results of mace itself on eight atoms, with which the engine compares its own at load.

The engine evaluates the layers in its own way, with `kernels` in place of some modules. Each kernel
is compared with its module when it is made. Comparing the whole model as well detects another
version of mace or e3nn that combines the modules differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from mixserver.core.arrays import Numbers, Scalars, Vectors

_SPACING: Final = 0.42
"""Of the cutoff, between neighbours: every atom has several neighbours, none has all."""
_AGREEMENT: Final = {torch.float64: 1e-8, torch.float32: 2e-3}
"""Of energies and forces, relative to the largest force or 1 eV/Å."""


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """Eight atoms without a cell, and mace's results for them."""

    numbers: Numbers
    positions: Vectors
    energies: Scalars
    """(8,) eV."""
    forces: Vectors
    """(8, 3) eV/Å."""

    def difference(self, energies: Scalars, forces: Vectors, dtype: torch.dtype) -> str:
        """What differs, for a message; "" if nothing does."""
        largest = [float(np.abs(array).max()) for array in (self.forces, 1e-3 * self.energies)]
        scale = max(1.0, *largest)
        for what, mine, theirs in (
            ("site energies", energies, self.energies),
            ("forces", forces, self.forces),
        ):
            worst = float(np.abs(mine - theirs).max())
            if not worst <= _AGREEMENT[dtype] * scale:
                return f"{what} of eight atoms differ by {worst:.2g} (eV, Å)"
        return ""


def reference_result(module: Any, head: int) -> ReferenceResult:
    """Evaluate mace's own module, as it was read.

    Args:
        module: a `mace.modules.MACE` or `ScaleShiftMACE`; turned to float64 on the CPU.
        head: index of the head.
    """
    module = module.to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
    species = [int(z) for z in module.atomic_numbers]
    chosen = [species[0], species[-1]]
    kinds = np.resize(chosen, 8)
    cutoff = float(module.r_max)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    dice = np.random.default_rng(8)
    positions = _SPACING * cutoff * (grid + dice.uniform(-0.08, 0.08, grid.shape))
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    sender, receiver = np.nonzero((distance < cutoff) & ~np.eye(8, dtype=bool))
    coordinates = torch.from_numpy(positions).requires_grad_(True)
    places = torch.tensor([species.index(z) for z in kinds])
    no_shift = torch.zeros(len(sender), 3, dtype=torch.float64)
    data = {
        "positions": coordinates,
        "node_attrs": torch.nn.functional.one_hot(places, len(species)).double(),
        "edge_index": torch.from_numpy(np.stack((sender, receiver))),
        "shifts": no_shift,
        "unit_shifts": no_shift,
        "cell": 100.0 * torch.eye(3, dtype=torch.float64),
        "batch": torch.zeros(8, dtype=torch.int64),
        "ptr": torch.tensor([0, 8]),
        "head": torch.tensor([head]),
    }
    out = module(data, training=False, compute_force=True)
    return ReferenceResult(
        np.asarray(kinds, np.int32),
        positions,
        out["node_energy"].detach().numpy().copy(),
        out["forces"].detach().numpy().copy(),
    )
