"""`mixserver plot`: plots of a run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="PNG file; default RUN/mixserver.png"
)
@click.option("--alone", is_flag=True, help="Without the runs that RUN continues.")
def plot(run: Path, output: Path | None, alone: bool) -> None:
    """Draw RUN, and the runs it continues, into a PNG.

    Times per evaluation, sizes of the regions, differences of the models, temperature.
    """
    from mixserver.analysis.plots import draw
    from mixserver.server.runs import run_chain

    click.echo(draw([run] if alone else run_chain(run), output or run / "mixserver.png"))
