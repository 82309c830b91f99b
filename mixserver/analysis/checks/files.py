"""Checks that need no model: do mix.toml, the structure and i-PI's input fit together?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from ase.data import chemical_symbols

from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.model_files import model_file_findings
from mixserver.analysis.checks.motions import motion_findings
from mixserver.analysis.checks.planned_run import plan_findings
from mixserver.analysis.checks.quantities import quantity_findings
from mixserver.analysis.checks.worker_commands import worker_command_findings
from mixserver.config import Case, Channel, stock_client_warning
from mixserver.core.cell import plane_spacings
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.frame import Frame, Topology
from mixserver.core.labels import known_atomic_numbers, unusual_masses
from mixserver.geometry import spacing
from mixserver.ipi.consistency import (
    address_errors,
    atom_errors,
    bead_errors,
    channel_of,
    check_elements,
    exchange_errors,
    input_errors,
    systems_served,
    thermostat_errors,
    uses_this_server,
)
from mixserver.ipi.input import IpiInput, read_input
from mixserver.ipi.start import InitialState, count_frames, read_initial_state
from mixserver.server.reference.comparison import REMEDY
from mixserver.server.reference.start import ComparedStart, compare_starts
from mixserver.server.reference.structure import Reference, find_reference, needs_elements
from mixserver.server.regions import build_region_model

_FAR = 0.3
"""Spacings; an rms displacement beyond it is that of a liquid or of another structure."""
_STRAINED = 0.05
"""A strain that a start seldom has on purpose."""


def check_files(case: Case) -> tuple[list[Finding], Topology | None, Frame | None]:
    """Everything that can be seen in the files alone.

    Returns:
        The findings, and the structure if it could be read.
    """
    ipi, about_input = _input(case)
    try:
        ours = ipi is not None and uses_this_server(case, ipi)
        reference = find_reference(case, ipi if ours else None)
    except ConfigError as error:
        return [*about_input, Finding("error", "structure", str(error))], None, None
    topology, start = reference.topology, reference.frame
    found = _structure(reference)
    if case.config.region is not None or needs_elements(case):
        try:
            check_elements(case.config, topology)
        except ConfigError as error:
            found.append(Finding("error", "elements", str(error)))
    if slow := stock_client_warning(case.config):
        found.append(Finding("warning", "stock clients", slow))
    if case.config.region is not None:
        try:
            build_region_model(case.config, start)
        except MixserverError as error:
            found.append(Finding("error", "seeds", str(error)))
    found += model_file_findings(case, topology)
    found += worker_command_findings(case, topology)
    found += about_input
    if ipi is not None:
        found += _agreement(case, ipi, topology, start)
        found += _components(case, ipi)
        found += plan_findings(ipi)
        found += motion_findings(case, ipi)
        found += quantity_findings(ipi)
    return found, topology, start


def _input(case: Case) -> tuple[IpiInput | None, list[Finding]]:
    """i-PI's input, if it is there and i-PI would accept it."""
    file = case.folder / case.config.ipi.input
    if not file.exists():
        words = f"{file} does not exist, so i-PI was not looked at"
        return None, [Finding("warning", "i-PI input", words)]
    try:
        ipi = read_input(file)
    except ConfigError as error:
        return None, [Finding("error", "i-PI input", str(error))]
    wrong = input_errors(ipi)
    return (None if wrong else ipi), [Finding("error", "i-PI input", words) for words in wrong]


def _structure(reference: Reference) -> list[Finding]:
    topology, start = reference.topology, reference.frame
    symbols, counts = np.unique(topology.numbers, return_counts=True)
    kinds = ", ".join(f"{n} {chemical_symbols[z]}" for z, n in zip(symbols, counts, strict=True))
    axes = [axis for axis, repeats in zip("abc", topology.pbc, strict=True) if repeats]
    repeats = "" if len(axes) == 3 else f", repeats along {' and '.join(axes) or 'none'}"
    words = f"{len(topology)} atoms: {kinds}{repeats}; {reference.how}"
    found = [Finding("ok", "structure", words, len(topology))]
    spacings = plane_spacings(start.cell)
    words = (
        f"{start.volume:.1f} Å³, {start.volume / len(start):.2f} Å³ per atom, "
        f"{', '.join(f'{h:.2f}' for h in spacings)} Å between its faces"
    )
    found.append(Finding("ok", "cell", words, float(spacings.min())))
    near = spacing(start)
    if near is not None:
        pair = "-".join(chemical_symbols[topology.numbers[i]] for i in near.pair)
        words = (
            f"nearest neighbours {near.nearest:.3f} Å apart ({pair}, atoms {near.pair[0]} and "
            f"{near.pair[1]}), typically {near.typical:.3f} Å"
        )
        found.append(Finding("ok", "spacing", words, near.nearest))
    return found


def _agreement(case: Case, ipi: IpiInput, topology: Topology, start: Frame) -> list[Finding]:
    """What a run would refuse, and what of it is in order."""
    rules = [
        ("address", address_errors(case, ipi), f"{_served(case)}, as in"),
        ("atoms", atom_errors(case, ipi, topology), "the same elements in the same order as in"),
        ("beads", bead_errors(case, ipi), f"{ipi.beads}, as far as regions need to know, in"),
    ]
    if {motion.mode for motion in ipi.motions} & {"atomswap", "al-kmc", "alchemy"}:
        fine = "of atoms that regions and elements can follow, in"
        rules.append(("exchanges", exchange_errors(case, ipi), fine))
    if case.config.ipi.thermostat != "everywhere":
        rules.append(
            ("thermostat", thermostat_errors(case, ipi), "outside the core, possible with")
        )
    found = []
    for what, errors, fine in rules:
        found += [Finding("error", what, error) for error in errors]
        if not errors:
            found.append(Finding("ok", what, f"{fine} {ipi.file.name}"))
    if ipi.pbc_wrapped and case.config.region is not None:
        words = (
            "an <ffsocket> has pbc='True': i-PI then wraps positions; mixserver does that "
            "itself, so leave it 'False' and save i-PI the time"
        )
        found.append(Finding("warning", "pbc", words))
    return found + _starts(case, ipi, start)


def _served(case: Case) -> str:
    """Who is answered what."""
    plain = {channel for channel, _ in case.channels} == {"mixed"}
    return ", ".join(
        address if plain else f"{address} ({channel})" for channel, address in case.channels
    )


def _starts(case: Case, ipi: IpiInput, reference: Frame) -> list[Finding]:
    """What i-PI's systems start from, against mix.toml's structure."""
    found: list[Finding] = []
    if case.config.region is not None:
        found += [_start(case, start) for start in compare_starts(case, ipi, reference)]
    for at, system in systems_served(case, ipi):
        try:
            start = read_initial_state(ipi.file, at)
        except ConfigError:
            continue  # reported with the atoms
        where = ", ".join(source.file.name for source in system.sources) or ipi.file.name
        found += _masses(case, start, where)
        found += _without_units(ipi, at)
        for source in system.sources:
            frames = count_frames(source.file, source.mode)
            if frames > system.beads:
                words = (
                    f"{source.file.name} holds {frames} frames; i-PI contracts them to "
                    f"{system.beads} bead{'s' if system.beads > 1 else ''}, an average over the "
                    "ring that they would be"
                )
                found.append(Finding("warning", "frames", words))
    return list(dict.fromkeys(found))


def _start(case: Case, start: ComparedStart) -> Finding:
    if start.crowded:
        return Finding("error", "start", f"{start.where}: {start.crowded}")
    if start.mismatch:
        level: Literal["error", "warning"] = (
            "error" if case.config.upstream.mismatch == "refuse" else "warning"
        )
        return Finding(level, "start", f"{start.where}: {start.mismatch}. {REMEDY}")
    placement = start.placement
    far = placement.rms > _FAR * placement.spacing > 0.0
    strained = np.abs(placement.deformation.principal - 1.0).max() > _STRAINED
    words = str(start)
    if strained:
        words += "; another cell than the structure's: i-PI's counts"
    if far:
        words += "; lambda and dead loads are those of the structure, not of this start"
    return Finding("warning" if far or strained else "ok", "start", words, placement.rms)


def _without_units(ipi: IpiInput, at: int) -> list[Finding]:
    """Files whose lengths nothing gives a unit, neither the XML nor they themselves."""
    found = []
    for source in ipi.systems[at].sources:
        if source.mode != "xyz" or not source.file.is_file():
            continue
        with source.file.open(encoding="utf-8") as lines:
            lines.readline()
            comment = lines.readline()
        bare = [
            what
            for what, units in (("positions", source.units), ("cell", source.cell_units))
            if units in {"", "automatic"} and f"{what}{{" not in comment
        ]
        if "cell" in bare and "CELL" not in comment:
            bare.remove("cell")
        if bare:
            words = (
                f"nothing gives {source.file.name} a unit for its {' and '.join(bare)}, so i-PI "
                "takes bohr: write "
                + " ".join(f"{what}{{angstrom}}" for what in bare)
                + " into its comment (or {atomic_unit}, if that is meant)"
            )
            found.append(Finding("warning", "units", words))
    return found


def _masses(case: Case, start: InitialState, where: str) -> list[Finding]:
    """Labels and masses that leave in doubt which element is meant."""
    numbers = known_atomic_numbers(start.labels, case.config.upstream.labels)
    found = [
        Finding(
            "warning", "masses", f"{where}: {words}; fine if hydrogen was made heavy on purpose"
        )
        for words in unusual_masses(start.labels, numbers, start.masses)
    ]
    unknown = sorted({start.labels[i] for i in np.flatnonzero(numbers == 0)})
    if unknown and needs_elements(case):
        words = (
            f"{where}: {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} no element, so "
            "these atoms could not be compared with mix.toml's structure; [upstream.labels] can "
            "state which element they are"
        )
        found.append(Finding("warning", "labels", words))
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
            remedy = (
                "; for the mixed potential both must be 1: cheap and correction with weights that "
                "add up to 1 each, or mixed with 1 and cheap with 0 (mts_weights 1, 0 and -1, 1)"
            )
            found.append(Finding("warning", "components", words + remedy))
    return found
