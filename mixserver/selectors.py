"""Who is expensive, as a case asks for it: the selector of a [region], and what it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from mixserver.agreement import species
from mixserver.comparison import Uses
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
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.record.journal import Journal, has_journal
from mixserver.record.runs import chain
from mixserver.region import seeds as kinds
from mixserver.region.following import Following
from mixserver.region.frozen import Frozen
from mixserver.region.selecting import Selecting
from mixserver.region.selector import Selector
from mixserver.remembering import Remembering
from mixserver.whole import write_whole

log = structlog.get_logger(__name__)

MEMORY: Final = "region.json"
"""In a run's folder: what regions remember at its end, and a frozen lambda from its beginning."""


def build_selector(config: Config, start: Frame) -> Selecting:
    """The selector that [region] and [mixing] ask for.

    Args:
        config: the case's settings; it must have a region.
        start: the structure's own positions, where a frozen lambda is chosen.

    Raises:
        ConfigError: no region, or seeds that are not among the atoms.
    """
    table = config.region
    if table is None:
        raise ConfigError("there is no [region], so no atom is expensive")
    seeds = _seeds(table, start)
    by_energy = config.mixing.kind == "energy"
    if by_energy and table.follow:
        return Following(
            seeds,
            core_radius=table.core_radius,
            blend_width=table.blend_width,
            profile=table.profile,
        )
    chosen = isinstance(seeds, kinds.CriterionSeeds)
    selector = Selector(
        seeds,
        core_radius=table.core_radius,
        blend_width=table.blend_width,
        profile=table.profile,
        measure_from=table.measure_from,
        hysteresis=(table.hysteresis.time_in, table.hysteresis.time_out)
        if table.hysteresis
        else None,
        atoms=len(start),
        held=by_energy and chosen,
    )
    return Frozen.at(selector, start) if by_energy and not chosen else selector


def uses(config: Config) -> Uses:
    """What the mixed potential of [region] and [mixing] takes from the structure's positions."""
    table, mixing = config.region, config.mixing
    if table is None:
        return Uses(places=False, order=False)
    seeds = table.seeds
    chosen = isinstance(seeds, CriterionSeeds)
    body = isinstance(seeds, SphereSeeds | SlabSeeds | CylinderSeeds)
    by_energy = mixing.kind == "energy"
    frozen = by_energy and not table.follow and not chosen
    by_index = isinstance(seeds, AtomSeeds) or (
        isinstance(seeds, CriterionSeeds) and seeds.initial is not None
    )
    return Uses(
        places=by_energy or body or by_index,
        order=frozen or by_index,
        bodies=body and not by_energy,
        swaps=by_energy and table.follow,
    )


def with_journal(selector: Selecting, folder: Path, earlier: Path | None = None) -> Selecting:
    """Have a selector go on with what an earlier run's regions remembered, and keep a journal.

    Args:
        selector: as `build_selector` made it.
        folder: this run's.
        earlier: the folder of the run that goes on.

    Raises:
        ConfigError: what the earlier run left is something else, or of other atoms.
    """
    runs = [] if earlier is None else [run for run in chain(earlier)[::-1] if has_journal(run)]
    if not (isinstance(selector, Selector) and selector.remembers):
        runs = []
    if earlier is not None and not runs:
        recall(selector, earlier / MEMORY)
    if not (isinstance(selector, Selector) and selector.remembers):
        return selector
    return Remembering(selector, Journal(folder), runs)


def remember(selector: Selecting, file: Path) -> None:
    """Write down what regions remember (hysteresis, seeds, samples), all of it or nothing.

    A memory that is still empty replaces none that is not.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    state = selector.state()
    if selector.remembers and not state:
        return
    write_whole(file, msgspec.json.encode(state))


def recall(selector: Selecting, file: Path) -> None:
    """Take back what `remember` wrote; without it regions begin with nothing, and that is logged.

    Raises:
        ConfigError: the file is something else, or of other atoms.
    """
    cure = f"delete {file}, and regions begin with nothing"
    try:
        state = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        _forgotten(selector, file)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{file} is no memory of regions: {error}; {cure}") from error
    else:
        try:
            selector.restore(state)
        except ConfigError as error:
            raise ConfigError(f"{file} does not fit this case: {error}; {cure}") from error
        if selector.remembers and not state:
            _forgotten(selector, file)


def _forgotten(selector: Selecting, file: Path) -> None:
    if not selector.remembers:
        if selector.state():  # a frozen lambda; one that follows is a matter of the frame alone
            log.warning(
                "lambda was not saved by the earlier run; it is chosen from the structure "
                "again, and must come out the same",
                missing=str(file),
            )
        return
    log.warning(
        "what regions remember was not saved by the earlier run: they begin with nothing, so "
        "lambda and work may jump here. Start a fresh run if that must not be",
        missing=str(file),
    )


def _seeds(table: RegionTable, start: Frame) -> kinds.Seeds | kinds.CriterionSeeds:
    topology, n = start.topology, len(start)
    match table.seeds:
        case AtomSeeds(indices=indices):
            return kinds.AtomSeeds(_inside(indices, n, "region.seeds.indices"))
        case SpeciesSeeds(elements=elements):
            wanted = species(elements, "region.seeds.elements") or ()
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
            return kinds.CylinderSeeds(
                "abc".index(s.axis),
                s.centre,
                s.radius,
                fractional=s.fractional,
                cell=start.cell,
            )
        case CriterionSeeds() as s:
            chosen = species(s.species, "region.seeds.species")
            initial = s.initial
            return kinds.CriterionSeeds(
                s.compute,
                low=s.low,
                high=s.high,
                every=s.every,
                sample_every=s.sample_every,
                samples=s.samples,
                initial=_inside(initial, n, "region.seeds.initial")
                if initial is not None
                else None,
                eligible=np.isin(topology.numbers, chosen) if chosen is not None else None,
            )


def _inside(indices: Sequence[int], n: int, key: str) -> tuple[int, ...]:
    outside = [i for i in indices if not 0 <= i < n]
    if outside:
        raise ConfigError(
            f"{key} names atom {outside[0]}, but the structure has {n} atoms, counted from 0"
        )
    return tuple(indices)
