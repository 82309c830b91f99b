"""Checks that need no model: do mix.toml, the structure and i-PI's input fit together?"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from mixserver.agreement import (
    address_errors,
    atom_errors,
    bead_errors,
    channel_of,
    know_elements,
    thermostat_errors,
)
from mixserver.checks.findings import Finding
from mixserver.config import Case, Channel, CriterionSeeds
from mixserver.errors import ConfigError, MixserverError
from mixserver.frame import Frame, Topology
from mixserver.ipi_input import IpiInput, read_input
from mixserver.record.structures import read_atoms, read_structure
from mixserver.selectors import build_selector

_CELL_TOLERANCE = 1e-3
_PRESSURE = {"npt", "nst", "sc-npt", "scnpt", "constrained-npt"}


def check_files(case: Case) -> tuple[list[Finding], Topology | None, Frame | None]:
    """Everything that can be seen in the files alone.

    Returns:
        The findings, and the structure if it could be read.
    """
    found: list[Finding] = []
    try:
        topology, start = read_structure(case.structure)
    except ConfigError as error:
        return [Finding("error", "structure", str(error))], None, None
    symbols, counts = np.unique(topology.numbers, return_counts=True)
    kinds = ", ".join(f"{n} {chemical_symbols[z]}" for z, n in zip(symbols, counts, strict=True))
    found.append(Finding("ok", "structure", f"{len(topology)} atoms: {kinds}", len(topology)))
    found += _positions(start)
    try:
        know_elements(case.config, topology)
    except ConfigError as error:
        found.append(Finding("error", "elements", str(error)))
    if case.config.region is not None:
        try:
            build_selector(case.config, start)
        except MixserverError as error:
            found.append(Finding("error", "seeds", str(error)))
    file = case.folder / case.config.ipi.input
    if not file.exists():
        found.append(
            Finding("warning", "i-PI input", f"{file} does not exist, so i-PI was not looked at")
        )
        return found, topology, start
    try:
        ipi = read_input(file)
    except ConfigError as error:
        found.append(Finding("error", "i-PI input", str(error)))
        return found, topology, start
    found += _agreement(case, ipi, topology, start)
    found += _components(case, ipi)
    found += _ensemble(case, ipi)
    return found, topology, start


def _positions(start: Frame) -> list[Finding]:
    heights = start.volume / np.linalg.norm(
        np.cross(start.cell[[1, 2, 0]], start.cell[[2, 0, 1]]), axis=1
    )
    return [
        Finding(
            "ok",
            "cell",
            f"{start.volume:.1f} Å³, {', '.join(f'{h:.2f}' for h in heights)} Å between its faces",
            float(heights.min()),
        )
    ]


def _agreement(case: Case, ipi: IpiInput, topology: Topology, start: Frame) -> list[Finding]:
    """What a run would refuse, and what of it is in order."""
    told = [
        ("address", address_errors(case, ipi), f"{_served(case)}, as in"),
        ("atoms", atom_errors(case, ipi, topology), "the same atoms in the same order as in"),
        ("beads", bead_errors(case, ipi), f"{ipi.beads}, as far as regions need to know, in"),
    ]
    if case.config.ipi.thermostat != "everywhere":
        told.append(("thermostat", thermostat_errors(case, ipi), "outside the core, possible with"))
    found = []
    for what, errors, fine in told:
        found += [Finding("error", what, error) for error in errors]
        if not errors:
            found.append(Finding("ok", what, f"{fine} {ipi.file.name}"))
    if ipi.pbc_wrapped:
        found.append(
            Finding(
                "warning",
                "pbc",
                "an <ffsocket> has pbc='True': i-PI then wraps positions; mixserver does that "
                "itself, so leave it 'False' and save i-PI the time",
            )
        )
    return found + _cells(ipi, start)


def _served(case: Case) -> str:
    """Who is answered what."""
    plain = {channel for channel, _ in case.channels} == {"mixed"}
    return ", ".join(
        address if plain else f"{address} ({channel})" for channel, address in case.channels
    )


def _cells(ipi: IpiInput, start: Frame) -> list[Finding]:
    """Structures of i-PI in another cell; `run` does not mind."""
    found = []
    for source in (source for system in ipi.systems for source in system.sources):
        if source.mode == "chk":
            continue
        try:
            theirs = read_atoms(source.file, units=source.units, cell_units=source.cell_units)
        except ConfigError as error:
            found.append(Finding("warning", "cell", f"i-PI's {error}"))
            continue
        cell = theirs.cell[:]
        if cell.any() and np.abs(cell - start.cell).max() > _CELL_TOLERANCE:
            found.append(
                Finding(
                    "warning",
                    "cell",
                    f"i-PI's {source.file.name} has another cell than mix.toml's structure; "
                    "i-PI's counts",
                )
            )
    return found


def _components(case: Case, ipi: IpiInput) -> list[Finding]:
    """Whether the parts of the mixed potential that i-PI adds up make one of it."""
    found = []
    for system in ipi.systems:
        counted: dict[Channel, float] = {}
        for (forcefield, _), weight in zip(system.forces, system.weights, strict=True):
            channel = channel_of(case, ipi, forcefield)
            if channel is not None:
                counted[channel] = counted.get(channel, 0.0) + weight
        if len(counted) < 2:
            continue
        mixed = counted.get("mixed", 0.0)
        cheap = mixed + counted.get("cheap", 0.0)
        rest = mixed + counted.get("correction", 0.0)
        words = f"the <force>s of {ipi.file.name} add up to {cheap:g} x cheap + {rest:g} x "
        words += "(mixed - cheap), weights and mts_weights counted"
        if max(abs(cheap - 1.0), abs(rest - 1.0)) < 1e-9:
            found.append(Finding("ok", "components", words))
        else:
            cure = (
                "; for the mixed potential both must be 1: cheap and correction with weights that "
                "add up to 1 each, or mixed with 1 and cheap with 0 (mts_weights 1, 0 and -1, 1)"
            )
            found.append(Finding("warning", "components", words + cure))
    return found


def _ensemble(case: Case, ipi: IpiInput) -> list[Finding]:
    region = case.config.region
    if region is None:
        return []
    modes = ", ".join(ipi.ensembles) or "any motion"
    if case.config.mixing.kind == "energy":
        words = f"{modes}: energy mixing has an energy, and forces and virial that belong to it"
        if isinstance(region.seeds, CriterionSeeds):
            words += "; it jumps where regions are chosen anew, so energy less work is conserved"
        return [Finding("ok", "ensemble", words)]
    found = []
    for mode in ipi.ensembles:
        if mode == "nve":
            found.append(
                Finding(
                    "warning",
                    "nve",
                    "force mixing conserves no energy, so NVE heats or cools slowly and i-PI's "
                    "conserved quantity means nothing; use a thermostat",
                )
            )
        elif mode in _PRESSURE:
            found.append(
                Finding(
                    "warning",
                    mode,
                    "under force mixing the virial is the cheap model's, so the barostat feels "
                    "the cheap model's pressure alone; fix the cell, or know what you do",
                )
            )
        elif mode in {"minimize", "neb", "instanton", "vibrations"}:
            found.append(
                Finding(
                    "warning",
                    mode,
                    "mixed forces are not the gradient of the reported energy: optimisers must "
                    "go by forces only, and energy differences are the cheap model's",
                )
            )
        elif mode in {"remd", "alchemical"}:
            found.append(
                Finding("warning", mode, "exchanges go by energies, which force mixing has not")
            )
        else:
            found.append(
                Finding("ok", "ensemble", f"{mode}: a thermostat takes up what mixing does")
            )
    return found
