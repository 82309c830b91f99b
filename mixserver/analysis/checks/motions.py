"""The check of i-PI's motions: which work with mixed forces, which do not, which are untested.

Reads the modes of <motion>, <dynamics> and <smotion>; evaluates nothing.
"""

from __future__ import annotations

from typing import Final

from mixserver.analysis.checks.findings import Finding
from mixserver.config import Case, CriterionSeeds, Region
from mixserver.ipi.input import IpiInput, Motion

_TRIED: Final = frozenset({"nve", "nvt", "npt", "minimize", "neb", "remd", "alchemy"})
"""Modes that were tested with mixed models."""
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
"""Modes that search one energy surface, which must not change meanwhile."""
_DERIVATIVES: Final = frozenset({"sc", "scnpt", "vibrations", "scp", "instanton"})
"""Modes that use differences of forces at small displacements."""


def motion_findings(case: Case, ipi: IpiInput) -> list[Finding]:
    """A finding for each way in which i-PI moves atoms or compares systems."""
    region = case.config.region
    if region is None:
        return []
    modes = [mode for mode in (*ipi.ensembles, *ipi.smotions) if mode not in {"multi", "dummy"}]
    modes = list(dict.fromkeys(modes)) or ["any motion"]
    by_energy = case.config.mixing.kind == "energy"
    found = [_by_energy(mode, region) if by_energy else _by_force(mode) for mode in modes]
    return found + _driven(ipi.motions)


def _by_energy(mode: str, region: Region) -> Finding:
    words = f"{mode}: energy mixing has an energy, and forces and virial are its derivatives"
    chosen = isinstance(region.seeds, CriterionSeeds)
    if mode in _SURFACE and (chosen or region.hysteresis is not None):
        why = "a criterion chooses the region" if chosen else "hysteresis moves the region"
        words = (
            f"{mode} looks for {_SURFACE[mode]}, but {why} as evaluations go by, so the energy "
            "changes under it: freeze the region (seeds by index), or let it follow its seeds"
        )
        return Finding("warning", mode, words)
    if mode in _DERIVATIVES:
        words += "; differences of forces at small displacements need double precision models"
    if chosen:
        words += "; it jumps where regions are chosen again, so energy less work is conserved"
    return Finding("ok", "ensemble", words + _untested_note(mode))


def _by_force(mode: str) -> Finding:
    if mode == "nve":
        words = (
            "force mixing conserves no energy, so NVE heats or cools slowly and i-PI's conserved "
            "quantity has no meaning; use a thermostat"
        )
    elif mode in _PRESSURE:
        words = (
            "under force mixing the virial is the cheap model's, so the barostat feels the cheap "
            "model's pressure alone; keep the cell fixed unless that is intended"
        )
    elif mode == "remd":
        words = (
            "exchanges go by energies, which force mixing does not have: they would be accepted by "
            "the cheap model's; use energy mixing"
        )
    elif mode in _SURFACE or mode in _DERIVATIVES:
        words = (
            f"{mode} looks for {_SURFACE.get(mode, 'the gradient of an energy')}, but mixed forces "
            "are not the gradient of the reported energy: optimisers must go by forces only, and "
            "energy differences are the cheap model's"
        )
    else:
        words = "a thermostat removes the heat that force mixing adds"
        if mode == "metad":
            words = "the bias is i-PI's own"
        return Finding("ok", "ensemble", f"{mode}: {words}{_untested_note(mode)}")
    return Finding("warning", mode, words)


def _untested_note(mode: str) -> str:
    """A note on modes that were not tested."""
    if mode in _TRIED or mode == "any motion":
        return ""
    return f"; {mode} is untested with mixed models: compare a short run with one model alone"


def _driven(motions: tuple[Motion, ...]) -> list[Finding]:
    if all(motion.mode != "driven_dynamics" for motion in motions):
        return []
    words = (
        "i-PI takes the force of the electric field from dipoles or Born charges among a "
        "driver's extras, and mixed answers have none: give them in i-PI's input (bec)"
    )
    return [Finding("warning", "driven_dynamics", words)]
