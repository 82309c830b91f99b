"""`mixserver bench scaling`: one case with other regions, workers, ranks, threads or beads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mixserver.cli.bench.options import RunSuite, choices, engine_options, suite_options

_VARIED = ("region", "workers", "ranks", "threads", "beads")


def _lengths(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Read "2,4,6"."""
    try:
        found = tuple(sorted({float(word) for word in value.split(",")}))
    except ValueError:
        found = ()
    if len(found) < 2 or not all(0.0 <= one < 1e3 for one in found):
        raise click.BadParameter(f"{value!r} are not two or more lengths in Å; expected e.g. 2,4,6")
    return found


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--vary",
    default=",".join(_VARIED),
    show_default=True,
    callback=choices(_VARIED),
    help="What is varied.",
)
@click.option("--atoms", type=click.IntRange(min=1), default=8000, show_default=True)
@click.option(
    "--core-radii",
    default="2,4,6,8,10",
    show_default=True,
    callback=_lengths,
    help="Å, of regions; the smallest is compared with the others.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="Expensive workers, compared with one.",
)
@click.option("--large-core", default=14.0, show_default=True, help="Å, of the region they share.")
@click.option(
    "--max-sites",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="Of the jobs that it is split into.",
)
@click.option(
    "--ranks",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="MPI ranks of the cheap worker, compared with one.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=2),
    default=2,
    show_default=True,
    help="Of the cheap worker, compared with one.",
)
@click.option("--beads", type=click.IntRange(min=2), default=8, show_default=True)
@click.option("--bead-atoms", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--batch-sites",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Of models.expensive, for beads in batches.",
)
@engine_options
@suite_options
def scaling(run: RunSuite, quick: bool, case: Path, **options: Any) -> None:
    """CASE with larger regions, more workers, ranks or threads, or beads at the same time.

    \b
    Example:
      mixserver bench scaling inputs/silicon_nve --vary workers,beads
    """
    from mixserver.analysis.bench.scaling import ScalingSuite, measure_scaling

    if quick:
        options |= {"atoms": 1, "bead_atoms": 1, "beads": 2, "core_radii": (1.0, 3.0)}
        options |= {"large_core": 3.0, "max_sites": 20}
    suite = ScalingSuite(case=case, **options)
    run("scaling", lambda board: measure_scaling(suite, board))
