"""`mixserver drift`: whether runs conserved their energy."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--skip", type=click.FloatRange(min=0.0), default=0.0, help="Picoseconds to leave out."
)
@click.option("--alone", is_flag=True, help="Without the runs that RUNS continue.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def drift(runs: tuple[Path, ...], skip: float, alone: bool, as_json: bool) -> None:
    """Measure how well RUNS conserved i-PI's conserved quantity.

    RUNS are folders like CASE/runs/0001. A run that continues others is joined with them, up to
    the step at which it continues. Drift in µeV/atom/ps, from a line through it, and the
    fluctuation about that line in µeV/atom. Work that updates of lambda did is taken off.
    """
    import msgspec

    from mixserver.config import load_case
    from mixserver.record.drift import drift_of
    from mixserver.record.runs import chain
    from mixserver.reference import read_reference

    found = {
        str(run): drift_of(
            [run] if alone else chain(run), len(read_reference(load_case(run))[0]), skip=skip
        )
        for run in runs
    }
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    names = [
        f"{name} ({one.runs[0]} to {one.runs[-1]})" if len(one.runs) > 1 else name
        for name, one in found.items()
    ]
    width = max(map(len, names))
    heads = "".join(f"  {head:>9}" for head in ("drift", "error", "rms", "work"))
    click.echo(f"{'run':<{width}}  {'ps':>7}  {'K':>6}{heads}")
    for name, one in zip(names, found.values(), strict=True):
        click.echo(
            f"{name:<{width}}  {one.picoseconds:7.2f}  {one.temperature:6.0f}  {one.drift:z9.3f}  "
            f"{one.error:9.3f}  {one.fluctuation:9.3f}  {one.work:z9.1f}"
        )
    click.echo("drift, its error: µeV/atom/ps; rms about the line, work: µeV/atom")
