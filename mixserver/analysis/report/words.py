"""Settings of a run in words that a reader of a paper would expect."""

from __future__ import annotations

from mixserver.config import (
    AtomSeeds,
    Config,
    CriterionSeeds,
    CylinderSeeds,
    Region,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.ipi.dynamics import Dynamics

_SHOWN: int = 12
"""Atoms that are listed by index."""


def dynamics_in_words(dynamics: Dynamics) -> str:
    """How the atoms are moved: "NVT at 600 K (langevin thermostat), time step 1 fs"."""
    words = dynamics.ensemble.upper() if dynamics.timestep_fs else dynamics.ensemble
    if dynamics.temperature is not None:
        words += f" at {dynamics.temperature:.4g} K"
    if dynamics.pressure_gpa is not None:
        words += f" and {dynamics.pressure_gpa:z.4g} GPa"
    if dynamics.thermostat:
        words += f" ({dynamics.thermostat} thermostat)"
    if dynamics.timestep_fs:
        words += f", time step {dynamics.timestep_fs:.4g} fs"
    if dynamics.beads > 1:
        words += f", {dynamics.beads} beads"
    if dynamics.systems > 1:
        words += f", {dynamics.systems} systems"
    return words


def mixing_in_words(config: Config) -> str:
    """What is mixed, and what follows for energies and forces."""
    if config.region is None:
        return "nothing is mixed: one model evaluates all atoms"
    if config.mixing.kind == "force":
        return (
            "forces are mixed, and the net force is removed; no energy is conserved, so a "
            "thermostat is needed"
        )
    loads = config.mixing.dead_loads
    frozen = not config.region.follow and not isinstance(config.region.seeds, CriterionSeeds)
    words = "energies are mixed: one potential energy of which all forces are the gradient"
    return (
        f"{words}, with dead loads ({loads or 'structure'})" if frozen and loads != "off" else words
    )


def region_in_words(region: Region) -> str:
    """Which atoms are expensive, and how lambda falls."""
    words = f"around {seeds_in_words(region)}: core (λ = 1) within {region.core_radius:g} Å"
    words += f", λ falls to 0 over the next {region.blend_width:g} Å ({region.profile}"
    words += ", from the nearest core atom)" if region.measure_from == "core" else ")"
    if region.follow:
        words += "; λ follows the atoms"
    if region.hysteresis is not None:
        times = region.hysteresis
        words += (
            f"; changes of λ take {times.time_in:g} evaluations when it rises and "
            f"{times.time_out:g} when it falls"
        )
    return words


def surroundings_in_words(config: Config) -> str:
    """Buffer and halo around the region."""
    if config.region is None:
        return ""
    halo = _width(config.region.halo_width)
    if config.mixing.kind == "energy":
        return f"halo {halo}; energy mixing needs no buffer"
    return f"buffer {_width(config.region.buffer_width)}, halo {halo}"


def seeds_in_words(region: Region) -> str:
    """What the region is built around."""
    match region.seeds:
        case AtomSeeds(indices=atoms):
            more = f" and {len(atoms) - _SHOWN} more" if len(atoms) > _SHOWN else ""
            listed = ", ".join(map(str, atoms[:_SHOWN])) + more
            return f"the atom{'s' * (len(atoms) > 1)} {listed}"
        case SpeciesSeeds(elements=elements):
            return f"all atoms of {' and '.join(elements)}"
        case SphereSeeds(radius=radius):
            return f"a sphere of radius {radius:g} Å, fixed in space"
        case SlabSeeds(axis=axis, low=low, high=high):
            return f"a slab from {low:g} to {high:g} along {axis}, fixed in space"
        case CylinderSeeds(axis=axis, radius=radius):
            return f"a cylinder along {axis} of radius {radius:g} Å, fixed in space"
        case CriterionSeeds(compute=compute, low=low, high=high, every=every):
            bounds = [f"≥ {low:g}"] * (low > float("-inf")) + [f"≤ {high:g}"] * (
                high < float("inf")
            )
            return f"atoms with {compute} {' and '.join(bounds)}, chosen every {every} evaluations"


def _width(width: float | str) -> str:
    return "of the expensive model's receptive field" if width == "exact" else f"{width} Å"
