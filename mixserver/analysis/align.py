"""Energy offsets and dead loads of a case's mixed energy: determined, written to a file."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from mixserver.analysis.case_workers import case_workers
from mixserver.analysis.region_preview import required_setup
from mixserver.config import Case
from mixserver.config import Region as RegionTable
from mixserver.core.errors import ConfigError
from mixserver.mixing.energy_offsets import EnergyOffset
from mixserver.region.profiles import named
from mixserver.server.energy_reference import ENERGY_REFERENCE

_MIDDLE: Final = np.array([0.5])
"""Where all profiles are steepest."""


class DeadLoadSummary(msgspec.Struct, frozen=True):
    """Number and size of the dead loads."""

    atoms: int
    largest: float
    """eV/Å."""


class Alignment(msgspec.Struct, frozen=True):
    """Result of an alignment."""

    file: str
    """The file that was written."""
    zeros: dict[str, EnergyOffset]
    """Energy offset of each element."""
    dead_loads: DeadLoadSummary | None
    """None if there are none."""
    pull: float | None
    """eV/Å, estimated size of grad-lambda forces; None unless lambda follows its seeds."""
    jump: float | None
    """eV, estimated change of the energy for each atom that becomes expensive or cheap; None unless
    a criterion selects the region."""


async def align_case(case: Case) -> Alignment:
    """Determine the state of a case's mixed energy with its local workers, and write it to a file.

    Raises:
        ConfigError: the case mixes forces, has no local workers, its models have no site energies,
            or the file cannot be written.
    """
    table = case.config.region
    if table is None:
        raise ConfigError(
            f"{case.file} has no [region], so nothing is mixed and there is nothing to align"
        )
    if case.config.mixing.kind == "force":
        raise ConfigError(
            f"{case.file} mixes forces, which need no energy offsets; set mixing.kind = 'energy'"
        )
    async with case_workers(case) as parts:
        setup = required_setup(parts)
        state = await setup.determine(await setup.reaches())
    file = case.folder / ENERGY_REFERENCE
    try:
        state.write(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. Without it every run determines offsets "
            "and dead loads itself, and keeps them in its own folder"
        ) from error
    loads = state.dead_loads
    spread = max((offset.spread for offset in state.zeros.values()), default=0.0)
    return Alignment(
        file=str(file),
        zeros=state.zeros,
        dead_loads=None if loads is None else DeadLoadSummary(len(loads.atoms), loads.largest),
        pull=spread * steepest(table) if table.follow else None,
        jump=spread if setup.moves and not table.follow else None,
    )


def steepest(table: RegionTable) -> float:
    """The largest slope (1/Å) of lambda along the radius."""
    profile = named(table.profile)
    middle = profile.slope(_MIDDLE)
    return abs(float(middle[0])) / table.blend_width
