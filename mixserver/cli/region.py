"""`mixserver region`: preview of core, blend and buffer."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("regions.xyz"),
    show_default=True,
)
@click.option(
    "--receptive-field",
    type=click.FloatRange(min=0.0),
    help="Å of the expensive model, in place of a local worker's own.",
)
def region(case: Path, output: Path, receptive_field: float | None) -> None:
    """Write the regions of CASE's structure as extxyz, for OVITO.

    Per atom: lambda (the expensive fraction), shell (3 core, 2 blend, 1 buffer, 0 bulk, -1 halo)
    and seed. Starts local workers only if needed: for the model's receptive field, and for
    values of a criterion.

    \b
    Example:
      mixserver region inputs/silicon_vacancy -o regions.xyz
    """
    import asyncio

    from mixserver.analysis.region_preview import preview_region
    from mixserver.cli.logs import configure
    from mixserver.config import load_case

    configure(None)
    seen = asyncio.run(preview_region(load_case(case), receptive_field=receptive_field))
    seen.write(output)
    click.echo(f"{output}: {seen}")
