"""`mixserver bench overhead`: time per evaluation that mixserver itself takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mixserver.cli.bench.options import numbers

if TYPE_CHECKING:
    from mixserver.analysis.bench.overhead import Overhead


@click.command()
@click.option(
    "--atoms",
    default="1000,8000,64000",
    show_default=True,
    callback=numbers("atoms", "1000,8000", or_none=False),
    help="System sizes, with commas between them.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Counted, per size.",
)
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def overhead(atoms: tuple[int, ...], evaluations: int, as_json: bool) -> None:
    """The server's own time per evaluation, with workers that answer at once."""
    import asyncio

    import msgspec

    from mixserver.analysis.bench.overhead import measure
    from mixserver.cli.logs import configure

    configure(None)
    figures = [asyncio.run(measure(n, evaluations)) for n in atoms]
    click.echo(msgspec.json.encode(figures).decode() if as_json else as_text(figures))


def as_text(figures: Sequence[Overhead]) -> str:
    """One row per system size."""
    from mixserver.cli.tables import text_table

    head = ("atoms", "carved", "own", "inside", "whole", "i-PI alone")
    rows = []
    for one in figures:
        times = (one.own_ms, one.inside_ms, one.whole_ms, one.floor_ms)
        rows.append((str(one.atoms), str(one.carved), *(f"{ms:.2f}" for ms in times)))
    return "\n".join(
        [
            "medians, ms per evaluation",
            text_table(head, rows, left=()),
            "own: all but the wait for workers; inside: carve, mix, report; whole: as i-PI sees it",
        ]
    )
