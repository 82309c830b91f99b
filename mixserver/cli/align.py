"""`mixserver align`: determine the energy offsets between both models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mixserver.analysis.align import Alignment


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def align(case: Path, as_json: bool) -> None:
    """Determine the energy offsets and dead loads of CASE.

    Starts the local workers, evaluates CASE's structure with both models, and writes mixing.json
    into CASE. Runs use it as long as models, structure, [region] and [mixing] stay the same;
    without it every run determines the same values when it begins.

    \b
    Example:
      mixserver align inputs/silicon_nve
    """
    import asyncio

    import msgspec

    from mixserver.analysis.align import align_case
    from mixserver.cli.logs import configure
    from mixserver.config import load_case

    configure(None)
    alignment = asyncio.run(align_case(load_case(case)))
    click.echo(msgspec.json.encode(alignment).decode() if as_json else as_text(alignment))


def as_text(alignment: Alignment) -> str:
    """A table of the offsets, and a line on each of the other results."""
    from mixserver.cli.tables import text_table

    head = ("element", "offset d (eV)", "spread of e - c - d (eV)", "atoms", "where")
    rows = []
    for symbol, offset in sorted(alignment.zeros.items()):
        value = f"{offset.value:z.6f}"
        if offset.atoms:
            where = "bulk-like" if offset.bulk else "core"
            rows.append((symbol, value, f"{offset.spread:.6f}", str(offset.atoms), where))
        else:
            rows.append((symbol, value, "-", "-", "given in mixing.zeros"))
    lines = [text_table(head, rows, left=(0, 4))]
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
            f"jumps: about {alignment.jump:.4f} eV at these positions, the spread, for each atom "
            "that an update of the region makes expensive or cheap; extras report their sum as work"
        )
    lines.append(f"written: {alignment.file}")
    return "\n".join(lines)
