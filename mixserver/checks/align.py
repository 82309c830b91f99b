"""`mixserver align`: the zeros and dead loads of a case's mixed energy, found and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.checks.pool import pool
from mixserver.checks.regions import prepared
from mixserver.config import Case
from mixserver.config import Region as RegionTable
from mixserver.errors import ConfigError
from mixserver.mixing.state import State
from mixserver.mixing.zeros import Zero
from mixserver.prepare import STATE
from mixserver.region.profiles import named

_MIDDLE: Final = np.array([0.5])
"""Where all profiles are steepest."""


class Loaded(msgspec.Struct, frozen=True):
    """Dead loads in two numbers."""

    atoms: int
    largest: float
    """eV/Å."""


class Alignment(msgspec.Struct, frozen=True):
    """What was determined, for people and machines."""

    file: str
    """Where it was written."""
    zeros: dict[str, Zero]
    """Per element."""
    dead_loads: Loaded | None
    """None if there are none."""
    pull: float | None
    """eV/Å, about the size of grad-lambda forces, where lambda follows its seeds."""
    jump: float | None
    """eV, about what the energy jumps by with each atom that changes sides, where a criterion
    chooses the region."""


async def align_case(case: Case) -> Alignment:
    """Determine the state of a case's mixed energy with its local workers, and write it down.

    Raises:
        ConfigError: forces are mixed, there are no local workers, the models give no site energies,
            or the file cannot be written.
    """
    table = case.config.region
    if table is None:
        raise ConfigError(f"{case.file} has no [region], so nothing is mixed and no zeros matter")
    if case.config.mixing.kind == "force":
        raise ConfigError(
            f"{case.file} mixes forces, which have no zeros to align; set mixing.kind = 'energy'"
        )
    async with pool(case) as parts:
        preparation = prepared(parts)
        state = await preparation.determine(await preparation.reaches())
    file = case.folder / STATE
    try:
        state.write(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. Without it every run finds zeros and "
            "dead loads itself, and keeps them in its own folder"
        ) from error
    return _told(file, state, table, preparation.moves)


def _told(file: Path, state: State, table: RegionTable, moves: bool) -> Alignment:
    loads = state.dead_loads
    spread = max((zero.spread for zero in state.zeros.values()), default=0.0)
    return Alignment(
        file=str(file),
        zeros=state.zeros,
        dead_loads=None if loads is None else Loaded(len(loads.atoms), loads.largest),
        pull=spread * steepest(table) if table.follow else None,
        jump=spread if moves and not table.follow else None,
    )


def steepest(table: RegionTable) -> float:
    """1/Å, the largest slope of lambda along the radius."""
    profile = named(table.profile)
    middle = profile.slope(_MIDDLE)
    return abs(float(middle[0])) / table.blend_width


def as_text(alignment: Alignment) -> str:
    """A table for people."""
    rows = [("element", "zero d (eV)", "spread of e - c - d (eV)", "atoms", "where")]
    for symbol, zero in sorted(alignment.zeros.items()):
        where = "bulk-like" if zero.bulk else "core"
        given = not zero.atoms
        rows.append(
            (
                symbol,
                f"{zero.value:z.6f}",
                "-" if given else f"{zero.spread:.6f}",
                "-" if given else str(zero.atoms),
                "given in mixing.zeros" if given else where,
            )
        )
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    lines = [
        "  ".join(
            cell.ljust(width) if at in (0, 4) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    loads = alignment.dead_loads
    if loads is None:
        lines.append("dead loads: none")
    else:
        lines.append(f"dead loads: on {loads.atoms} atoms, the largest {loads.largest:.4f} eV/Å")
    if alignment.pull is not None:
        lines.append(
            f"grad-lambda forces: about {alignment.pull:.4f} eV/Å at these positions, the spread "
            "times the largest slope of lambda"
        )
    if alignment.jump is not None:
        lines.append(
            f"jumps: about {alignment.jump:.4f} eV at these positions, the spread, with each atom "
            "that a choice of the region makes expensive or cheap; extras tell their sum as work"
        )
    lines.append(f"written: {alignment.file}")
    return "\n".join(lines)


def to_json(alignment: Alignment) -> str:
    """The same for machines."""
    return msgspec.json.encode(alignment).decode()
