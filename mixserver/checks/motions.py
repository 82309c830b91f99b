"""What i-PI will do with mixed forces, motion by motion: what is right, what is not, what is new.

Looks at modes of <motion>, <dynamics> and <smotion> only; evaluates nothing.
"""

from __future__ import annotations

from typing import Final

from mixserver.checks.findings import Finding
from mixserver.config import Case, CriterionSeeds, Region
from mixserver.ipi_input import IpiInput, Motion

_TRIED: Final = frozenset({"nve", "nvt", "npt", "minimize", "neb", "remd", "alchemy"})
"""Modes that were run with mixed models and compared with what they should give."""
_PRESSURE: Final = frozenset({"npt", "nst", "scnpt", "p_ramp"})
_SURFACE: Final = {
    "minimize": "a minimum",
    "neb": "a path of least energy",
    "string": "a path of least energy",
    "instanton": "a saddle point in the space of paths",
    "vibrations": "second derivatives of one energy",
    "normalmodes": "an energy along normal modes",
    "scp": "averages over one harmonic energy",
    "remd": "energies of replicas that are compared",
}
"""Modes that look for something on one surface, which must not change under them."""
_DERIVATIVES: Final = frozenset({"sc", "scnpt", "vibrations", "scp", "instanton"})
"""Modes that take differences of forces at small displacements."""


def motion_findings(case: Case, ipi: IpiInput) -> list[Finding]:
    """A sentence for each way in which i-PI moves atoms or compares systems.

    Args:
        case: the case; without a region nothing is mixed, and there is nothing to say.
        ipi: the input.
    """
    region = case.config.region
    if region is None:
        return []
    modes = [mode for mode in (*ipi.ensembles, *ipi.smotions) if mode not in {"multi", "dummy"}]
    modes = list(dict.fromkeys(modes)) or ["any motion"]
    found = []
    by_energy = case.config.mixing.kind == "energy"
    for mode in modes:
        one = _by_energy(mode, region) if by_energy else _by_force(mode)
        found.append(one)
    return found + _driven(ipi.motions)


def _by_energy(mode: str, region: Region) -> Finding:
    words = f"{mode}: energy mixing has an energy, and forces and virial that belong to it"
    chosen = isinstance(region.seeds, CriterionSeeds)
    if mode in _SURFACE and (chosen or region.hysteresis is not None):
        why = "a criterion chooses the region" if chosen else "hysteresis moves the region"
        return Finding(
            "warning",
            mode,
            f"{mode} looks for {_SURFACE[mode]}, but {why} as evaluations go by, so the energy "
            "changes under it: freeze the region (seeds by index), or let it follow its seeds",
        )
    if mode in _DERIVATIVES:
        words += "; differences of forces at small displacements need double precision models"
    if chosen:
        words += "; it jumps where regions are chosen again, so energy less work is conserved"
    return Finding("ok", "ensemble", words + _new(mode))


def _by_force(mode: str) -> Finding:
    if mode == "nve":
        return Finding(
            "warning",
            "nve",
            "force mixing conserves no energy, so NVE heats or cools slowly and i-PI's conserved "
            "quantity means nothing; use a thermostat",
        )
    if mode in _PRESSURE:
        return Finding(
            "warning",
            mode,
            "under force mixing the virial is the cheap model's, so the barostat feels the cheap "
            "model's pressure alone; fix the cell, or know what you do",
        )
    if mode == "remd":
        return Finding(
            "warning",
            mode,
            "exchanges go by energies, which force mixing has not: they would be accepted by the "
            "cheap model's; use energy mixing",
        )
    if mode in _SURFACE or mode in _DERIVATIVES:
        wants = _SURFACE.get(mode, "the gradient of an energy")
        return Finding(
            "warning",
            mode,
            f"{mode} looks for {wants}, but mixed forces are not the gradient of the reported "
            "energy: optimisers must go by forces only, and energy differences are the cheap "
            "model's",
        )
    if mode == "metad":
        return Finding("ok", "ensemble", f"{mode}: the bias is i-PI's own{_new(mode)}")
    return Finding(
        "ok", "ensemble", f"{mode}: a thermostat takes up what force mixing does{_new(mode)}"
    )


def _new(mode: str) -> str:
    """What to say of a mode that was not tried."""
    if mode in _TRIED or mode == "any motion":
        return ""
    return f"; {mode} is untested with mixed models: compare a short run with one model alone"


def _driven(motions: tuple[Motion, ...]) -> list[Finding]:
    if all(motion.mode != "driven_dynamics" for motion in motions):
        return []
    return [
        Finding(
            "warning",
            "driven_dynamics",
            "i-PI takes the force of the electric field from dipoles or Born charges among a "
            "driver's extras, and mixed answers have none: give them in i-PI's input (bec)",
        )
    ]
