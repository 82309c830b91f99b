"""Untrained MACE models: for measuring time, which does not depend on what a model has learned."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.mace.model import import_mace, quiet

_BLOCK = "RealAgnosticResidualInteractionBlock"


def build_untrained(
    numbers: Sequence[int],
    *,
    irreps: str = "128x0e",
    l_max: int = 3,
    layers: int = 2,
    r_max: float = 6.0,
    correlation: int = 3,
    seed: int = 0,
) -> Any:
    """A ScaleShiftMACE with random weights, float32, laid out as published foundation models are.

    Args:
        numbers: atomic numbers it knows.
        irreps: of the node features, such as "128x0e" or "128x0e + 128x1o".
        l_max: highest degree of the spherical harmonics.
        layers: number of interactions.
        r_max: Å.
        correlation: body order of the product basis, minus one.
        seed: of the weights.

    Raises:
        ConfigError: mace refuses one of them.
        MissingPackage: torch or mace-torch is not installed.
    """
    import_mace()
    import torch
    from e3nn import o3
    from mace import modules

    torch.manual_seed(seed)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e3nn compiles itself with deprecated tools
            block = getattr(modules.blocks, _BLOCK)
            return modules.ScaleShiftMACE(
                r_max=r_max,
                num_bessel=8,
                num_polynomial_cutoff=5,
                max_ell=l_max,
                interaction_cls=block,
                interaction_cls_first=block,
                num_interactions=layers,
                num_elements=len(numbers),
                hidden_irreps=o3.Irreps(irreps),
                MLP_irreps=o3.Irreps("16x0e"),
                atomic_energies=np.zeros((1, len(numbers))),
                avg_num_neighbors=50.0,
                atomic_numbers=sorted(numbers),
                correlation=correlation,
                gate=torch.nn.functional.silu,
                radial_MLP=[64, 64, 64],
                atomic_inter_scale=[1.0],
                atomic_inter_shift=[0.0],
            )
    except Exception as error:
        raise ConfigError(
            f"mace cannot build a model with irreps {irreps!r}, l_max {l_max}, {layers} layers, "
            f"r_max {r_max} Å: {type(error).__name__}: {error}"
        ) from error


def write_untrained(module: Any, file: Path) -> None:
    """Write a model as mace's own training does.

    Raises:
        ConfigError: the file cannot be written.
    """
    import torch

    try:
        with quiet():
            torch.save(module, file)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{file} cannot be written: {error}") from error
