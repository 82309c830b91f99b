"""`mixserver report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="HTML file; default RUN/report.html"
)
@click.option("--alone", is_flag=True, help="Without the runs that RUN continues.")
def report(run: Path, output: Path | None, alone: bool) -> None:
    """Write a report of RUN as one HTML page with its pictures in it.

    RUN is a run's folder, or a case for its newest run; it is joined with the runs that it
    continues. Settings in words, models with fingerprints, cost and speed-up, conservation of
    energy, the region over time, pictures, and warnings. The page needs no other file.

    \b
    Examples:
      mixserver report inputs/minimal
      mixserver report -o vacancy.html inputs/silicon_vacancy/runs/0003
    """
    from mixserver.analysis.find_run import find_run
    from mixserver.analysis.report.page import write_run_report
    from mixserver.analysis.run_series import read_series
    from mixserver.server.runs import run_chain

    folder = find_run(run)
    series = read_series([folder] if alone else run_chain(folder))
    click.echo(write_run_report(series, output or folder / "report.html"))
