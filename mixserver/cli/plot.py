"""`mixserver plot`: pictures of a run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="PNG file; default RUN/mixserver.png"
)
def plot(run: Path, output: Path | None) -> None:
    """Draw RUN, a folder like CASE/runs/latest, into a PNG.

    Times per evaluation, sizes of the regions, how far the models are apart, temperature.
    """
    from mixserver.ipi_input import read_input
    from mixserver.ipi_output import single_columns
    from mixserver.record.plots import draw

    restarted = run / "RESTART.in"  # i-PI then prints no header
    otherwise = single_columns(read_input(restarted).columns) if restarted.exists() else None
    click.echo(draw(run, output or run / "mixserver.png", otherwise))
