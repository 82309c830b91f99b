"""Small random MACE models, made here so that tests need nothing from outside."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from mixserver_worker.engines.mace.model import import_mace

SPECIES = (1, 6, 14)
CUTOFF = 3.6
PLAIN = {"layers": 2, "correlation": 2}
MODELS: dict[str, dict[str, Any]] = {
    "one layer": {"layers": 1, "correlation": 3},
    "two layers": {"layers": 2, "correlation": 3, "kind": "ScaleShiftMACE"},
    "three layers": {"layers": 3, "correlation": 2, "first": "RealAgnosticResidual"},
    "zbl": {**PLAIN, "kind": "ScaleShiftMACE", "pair_repulsion": True, "transform": "Agnesi"},
    "two heads": {**PLAIN, "kind": "ScaleShiftMACE", "heads": ["dft", "coupled cluster"]},
    "density": {**PLAIN, "first": "RealAgnosticDensity", "then": "RealAgnosticDensityResidual"},
    "attention": {**PLAIN, "then": "RealAgnosticAttResidual"},
    "nonlinear": {
        **PLAIN,
        "first": "RealAgnosticResidualNonLinear",
        "then": "RealAgnosticResidualNonLinear",
        "apply_cutoff": False,
    },
    "agnostic product": {**PLAIN, "use_agnostic_product": True},
    "last readout": {**PLAIN, "use_last_readout_only": True},
    "fourth order": {"layers": 1, "correlation": 4, "max_ell": 1},
}


def build(
    *,
    layers: int,
    correlation: int,
    kind: str = "MACE",
    first: str = "RealAgnostic",
    then: str = "RealAgnosticResidual",
    heads: list[str] | None = None,
    transform: str = "None",
    max_ell: int = 2,
    hidden: str = "4x0e + 4x1o",
    seed: int = 0,
    **more: Any,
) -> Any:
    """A MACE module with random weights, in float64."""
    import_mace()
    import torch
    from e3nn import o3
    from mace import modules

    dice = np.random.default_rng(seed)
    if kind == "ScaleShiftMACE":
        scale, shift = [4.0, 3.0], [0.2, -0.1]
        count = len(heads or ["Default"])
        more |= {"atomic_inter_scale": scale[:count], "atomic_inter_shift": shift[:count]}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e3nn compiles itself with deprecated tools
            module = getattr(modules, kind)(
                r_max=CUTOFF,
                num_bessel=4,
                num_polynomial_cutoff=5,
                max_ell=max_ell,
                interaction_cls=getattr(modules.blocks, f"{then}InteractionBlock"),
                interaction_cls_first=getattr(modules.blocks, f"{first}InteractionBlock"),
                num_interactions=layers,
                num_elements=len(SPECIES),
                hidden_irreps=o3.Irreps(hidden),
                MLP_irreps=o3.Irreps("6x0e"),
                atomic_energies=dice.normal(size=(len(heads or [0]), len(SPECIES))),
                avg_num_neighbors=4.0,
                atomic_numbers=list(SPECIES),
                correlation=correlation,
                gate=torch.nn.functional.silu,
                radial_MLP=[8, 8],
                distance_transform=transform,
                heads=heads,
                **more,
            )
        with torch.no_grad():
            for parameter in module.readouts.parameters():
                parameter.mul_(6.0)  # forces of about 1 eV/Å
    finally:
        torch.set_default_dtype(before)
    return module
