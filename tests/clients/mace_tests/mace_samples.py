"""Small random MACE models and small systems, made here so that tests need nothing from outside."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from clients.engine import Answer
from clients.engines.mace_model import import_mace
from clients.testing import System
from mixserver.wire.worker import Evaluate

AGREES = 1e-12
"""Relative to the largest number: the same sums in another order."""

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
                hidden_irreps=o3.Irreps("4x0e + 4x1o"),
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


TRICLINIC = np.array([[5.2, 0.4, 0.0], [1.4, 5.6, -0.3], [-0.9, 0.8, 6.1]])
CASES: dict[str, tuple[np.ndarray[Any, Any], tuple[bool, bool, bool], int]] = {
    "triclinic": (TRICLINIC, (True, True, True), 10),
    "left-handed": (TRICLINIC[[1, 0, 2]], (True, True, True), 10),
    "smaller than the cutoff": (TRICLINIC * 0.47, (True, True, True), 1),
    "slab": (TRICLINIC, (True, True, False), 10),
    "wire": (TRICLINIC, (False, True, False), 10),
    "free": (np.zeros((3, 3)), (False, False, False), 10),
    "cluster in a large cell": (TRICLINIC + 60.0 * np.eye(3), (True, True, True), 10),
}


def system(case: str, seed: int = 0) -> System:
    """Atoms on a distorted grid, some outside the cell."""
    cell, pbc, count = CASES[case]
    dice = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.1, 0.6]] * 2, [0.05, 0.35, 0.7], indexing="ij"), -1)
    places = grid.reshape(-1, 3)[:count] @ TRICLINIC
    places += dice.normal(scale=0.15, size=places.shape)
    places += (dice.integers(-1, 2, places.shape) * np.array(pbc)) @ cell
    numbers = dice.choice(SPECIES, count).astype(np.int32)
    return System(places, numbers, cell.copy(), pbc)


def job(system: System, weight: Any = None, stream: int = 1, **more: Any) -> Evaluate:
    return Evaluate(
        job=7,
        stream=stream,
        positions=system.positions,
        numbers=system.numbers,
        cell=system.cell,
        pbc=system.pbc,
        weight=weight,
        energies=True,
        **more,
    )


def agree(got: Answer, expected: Answer, *, virial: bool = True, room: float = AGREES) -> None:
    scale = max(1.0, np.abs(expected.forces).max(), np.abs(expected.energies).max())
    assert abs(got.energy - expected.energy) < room * scale * len(got.forces)
    np.testing.assert_allclose(got.forces, expected.forces, rtol=0, atol=room * scale)
    if virial:
        np.testing.assert_allclose(
            got.virial, expected.virial, rtol=0, atol=10 * room * scale * len(got.forces)
        )
