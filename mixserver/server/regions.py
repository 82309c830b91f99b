"""Builds the region model that [region] and [mixing] ask for, and restores its saved state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from mixserver.config import (
    AtomSeeds,
    Config,
    CriterionSeeds,
    CylinderSeeds,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.config import Region as RegionTable
from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.ipi.consistency import species_numbers
from mixserver.region import seeds as kinds
from mixserver.region.fixed import FixedRegion
from mixserver.region.protocol import RegionModel
from mixserver.region.shell_region import ShellRegion
from mixserver.region.smooth import SmoothRegion
from mixserver.server.records.journal import Journal
from mixserver.server.records.journal_reader import has_journal
from mixserver.server.reference.comparison import ReferenceUse
from mixserver.server.region_memory import JournalledRegion
from mixserver.server.runs import run_chain

log = structlog.get_logger(__name__)

REGION_STATE: Final = "region.json"
"""In a run's folder: the state of regions at its end, and a fixed lambda from its beginning."""


def build_region_model(config: Config, start: Frame) -> RegionModel:
    """The region model that [region] and [mixing] ask for; a fixed lambda is computed at `start`.

    Raises:
        ConfigError: no region, or seeds that are not among the atoms.
    """
    table = config.region
    if table is None:
        raise ConfigError("there is no [region], so no atom is expensive")
    seeds = _seeds(table, start)
    by_energy = config.mixing.kind == "energy"
    if by_energy and table.follow:
        return SmoothRegion(
            seeds,
            core_radius=table.core_radius,
            blend_width=table.blend_width,
            profile=table.profile,
        )
    selected = isinstance(seeds, kinds.CriterionSeeds)
    shells = ShellRegion(
        seeds,
        core_radius=table.core_radius,
        blend_width=table.blend_width,
        profile=table.profile,
        measure_from=table.measure_from,
        hysteresis=(table.hysteresis.time_in, table.hysteresis.time_out)
        if table.hysteresis
        else None,
        atoms=len(start),
        held=by_energy and selected,
    )
    return FixedRegion.at(shells, start) if by_energy and not selected else shells


def uses(config: Config) -> ReferenceUse:
    """What the mixed potential of [region] and [mixing] takes from the structure's positions."""
    table, mixing = config.region, config.mixing
    if table is None:
        return ReferenceUse(places=False, order=False)
    seeds = table.seeds
    chosen = isinstance(seeds, CriterionSeeds)
    body = isinstance(seeds, SphereSeeds | SlabSeeds | CylinderSeeds)
    by_energy = mixing.kind == "energy"
    frozen = by_energy and not table.follow and not chosen
    by_index = isinstance(seeds, AtomSeeds) or (
        isinstance(seeds, CriterionSeeds) and seeds.initial is not None
    )
    return ReferenceUse(
        places=by_energy or body or by_index,
        order=frozen or by_index,
        bodies=body and not by_energy,
        swaps=by_energy and table.follow,
    )


def with_journal(
    region_model: RegionModel, folder: Path, earlier: Path | None = None
) -> RegionModel:
    """Restore the state of regions of the `earlier` run, and keep a journal in this one's folder.

    Raises:
        ConfigError: the state of the earlier run is something else, or of other atoms.
    """
    runs: list[Path] = []
    remembers = isinstance(region_model, ShellRegion) and region_model.has_memory
    if remembers and earlier is not None:
        runs = [run for run in reversed(run_chain(earlier)) if has_journal(run)]
    if earlier is not None and not runs:
        load_region_state(region_model, earlier / REGION_STATE)
    if not isinstance(region_model, ShellRegion) or not remembers:
        return region_model
    return JournalledRegion(region_model, Journal(folder), runs)


def save_region_state(region_model: RegionModel, file: Path) -> None:
    """Write the state of regions (hysteresis, seeds, samples), all of it or nothing.

    An empty state does not replace a saved one.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    state = region_model.state()
    if region_model.has_memory and not state:
        return
    write_atomically(file, msgspec.json.encode(state))


def load_region_state(region_model: RegionModel, file: Path) -> None:
    """Restore what `save_region_state` wrote; a missing file is logged.

    Raises:
        ConfigError: the file is something else, or of other atoms.
    """
    cure = f"delete {file}, and regions start without a saved state"
    try:
        state = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        _warn_missing(region_model, file)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{file} is not a state of regions: {error}; {cure}") from error
    else:
        try:
            region_model.restore(state)
        except ConfigError as error:
            raise ConfigError(f"{file} does not fit this case: {error}; {cure}") from error
        if region_model.has_memory and not state:
            _warn_missing(region_model, file)


def _warn_missing(region_model: RegionModel, file: Path) -> None:
    if not region_model.has_memory:
        if region_model.state():  # a fixed lambda; one that follows depends on the frame alone
            log.warning(
                "the earlier run did not save lambda; it is computed from the structure again, and "
                "must come out the same",
                missing=str(file),
            )
        return
    log.warning(
        "the earlier run did not save the state of its regions: they start without one, so lambda "
        "and work may jump here. Start a fresh run if that is not acceptable",
        missing=str(file),
    )


def _seeds(table: RegionTable, start: Frame) -> kinds.Seeds | kinds.CriterionSeeds:
    topology, n = start.topology, len(start)
    match table.seeds:
        case AtomSeeds(indices=indices):
            return kinds.AtomSeeds(_inside(indices, n, "region.seeds.indices"))
        case SpeciesSeeds(elements=elements):
            wanted = species_numbers(elements, "region.seeds.elements") or ()
            if not np.isin(topology.numbers, wanted).any():
                raise ConfigError(
                    f"region.seeds.elements = {list(elements)}: the structure has none of them"
                )
            return kinds.SpeciesSeeds(topology.numbers, wanted)
        case SphereSeeds() as s:
            return kinds.SphereSeeds(s.centre, s.radius, fractional=s.fractional, cell=start.cell)
        case SlabSeeds() as s:
            return kinds.SlabSeeds("abc".index(s.axis), s.low, s.high)
        case CylinderSeeds() as s:
            axis, at = "abc".index(s.axis), s.centre
            return kinds.CylinderSeeds(axis, at, s.radius, fractional=s.fractional, cell=start.cell)
        case CriterionSeeds() as s:
            chosen = species_numbers(s.species, "region.seeds.species")
            first = None if s.initial is None else _inside(s.initial, n, "region.seeds.initial")
            return kinds.CriterionSeeds(
                s.compute,
                low=s.low,
                high=s.high,
                every=s.every,
                sample_every=s.sample_every,
                samples=s.samples,
                initial=first,
                eligible=np.isin(topology.numbers, chosen) if chosen is not None else None,
            )


def _inside(indices: Sequence[int], n: int, key: str) -> tuple[int, ...]:
    outside = [i for i in indices if not 0 <= i < n]
    if outside:
        raise ConfigError(
            f"{key} names atom {outside[0]}, but the structure has {n} atoms, counted from 0"
        )
    return tuple(indices)
