"""`mixserver drift`: drift and fluctuation of the conserved quantity of runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    metavar="RUN...",
    type=click.Path(path_type=Path),
)
@click.option(
    "--skip", type=click.FloatRange(min=0.0), default=0.0, help="Picoseconds to leave out."
)
@click.option("--alone", is_flag=True, help="Without the runs that RUN continues.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def drift(runs: tuple[Path, ...], skip: float, alone: bool, as_json: bool) -> None:
    """Measure how well each RUN conserved i-PI's conserved quantity.

    RUN is a run's folder such as CASE/runs/0001, or a case for its newest run. One that continues
    others is joined with them, up to the step at which it continues. Drift in µeV/atom/ps, from a
    line through it, and the fluctuation about that line in µeV/atom. The work done by updates of
    lambda is subtracted.
    """
    import msgspec

    from mixserver.analysis.drift import energy_drift
    from mixserver.analysis.find_run import find_run
    from mixserver.cli.tables import text_table
    from mixserver.config import load_case
    from mixserver.server.reference.structure import read_reference
    from mixserver.server.runs import run_chain

    found = {
        str(run): energy_drift(
            [run] if alone else run_chain(run), len(read_reference(load_case(run))[0]), skip=skip
        )
        for run in map(find_run, runs)
    }
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    names = [
        f"{name} ({one.runs[0]} to {one.runs[-1]})" if len(one.runs) > 1 else name
        for name, one in found.items()
    ]
    rows = [
        (
            name,
            f"{one.picoseconds:.2f}",
            f"{one.temperature:.0f}",
            f"{one.drift:z.3f}",
            f"{one.error:.3f}",
            f"{one.fluctuation:.3f}",
            f"{one.work:z.1f}",
        )
        for name, one in zip(names, found.values(), strict=True)
    ]
    click.echo(text_table(("run", "ps", "K", "drift", "error", "rms", "work"), rows))
    click.echo("drift, its error: µeV/atom/ps; rms about the line, work: µeV/atom")
