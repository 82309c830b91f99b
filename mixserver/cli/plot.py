"""`mixserver plot`: plots of runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="PNG file; default RUN/mixserver.png"
)
@click.option("--alone", is_flag=True, help="Without the runs that RUN continues.")
@click.option(
    "--msd", is_flag=True, help="Also mean square displacements of the seeds and of the bulk."
)
@click.option("--rdf", is_flag=True, help="Also radial distributions around core and bulk atoms.")
def plot(runs: tuple[Path, ...], output: Path | None, alone: bool, msd: bool, rdf: bool) -> None:
    """Draw each RUN over time into one PNG, several side by side.

    RUN is a run's folder, or a case for its newest run; it is joined with the runs that it
    continues. Over time in ps: temperature by region, potential and conserved energy, lambda work,
    sizes of the regions, differences of the models, times per evaluation; and the atoms of the last
    frame coloured by lambda, seeds ringed.

    \b
    Examples:
      mixserver plot inputs/minimal
      mixserver plot --msd --rdf inputs/w_he/runs/0002
      mixserver plot -o both.png cases/energy cases/force
    """
    from mixserver.analysis.find_run import find_run
    from mixserver.analysis.plots.draw import draw
    from mixserver.analysis.run_series import read_series
    from mixserver.server.runs import run_chain

    folders = [find_run(run) for run in runs]
    series = [read_series([folder] if alone else run_chain(folder)) for folder in folders]
    click.echo(draw(series, output or folders[0] / "mixserver.png", msd=msd, rdf=rdf))
