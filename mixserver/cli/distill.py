"""`mixserver distill`: a cheap SNAP from the expensive model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mixserver.distill.results import Result


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--sweep", is_flag=True, help="Compare the recipe's resolutions and cutoffs too.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def distill(recipe: Path, sweep: bool, quiet: bool) -> None:
    """Distill a cheap potential from the expensive model of RECIPE.

    RECIPE is a distill.toml or its folder. Relaxes the crystal, lets i-PI move it at the recipe's
    temperatures, has the expensive model label it, and fits a SNAP and a pair potential under hard
    constraints. Leaves NAME.in for a lammps worker and report.html in the recipe's folder. Started
    again, it continues where it stopped.
    Exits with status 1 and the reasons if the verdict is fail.

    \b
    Examples:
      mixserver distill inputs/silicon_distill
      mixserver distill distill.toml --sweep
    """
    import asyncio

    from mixserver.cli.logs import configure
    from mixserver.cli.steps import shown, until_stopped
    from mixserver.core.errors import ConfigError
    from mixserver.distill.config.load import load_project
    from mixserver.distill.pipeline import distill
    from mixserver.distill.report.verdict import verdict

    project = load_project(recipe)
    project.folder.mkdir(parents=True, exist_ok=True)
    configure(project.folder / "distill.log")

    with shown(quiet=quiet) as show:
        written = asyncio.run(until_stopped(distill(project, show, sweep=sweep)))
    if written is None:
        click.echo(f"stopped; to continue: mixserver distill {recipe}")
        raise SystemExit(130)
    grade, (head, *why) = verdict(written.result)
    files = f"potential: {written.potential}\nreport: {written.report}"
    if not quiet:
        click.echo(results_table(written.result))
        click.echo(files)
    if grade == "fail":
        raise ConfigError(" ".join([head, *why, "The files are kept for inspection."]))
    if not quiet:
        click.echo("\n".join([head, *(f"  * {sentence}" for sentence in why)]))


def results_table(result: Result) -> str:
    """Cost, errors and bulk properties of the candidates."""
    from mixserver.cli.tables import text_table
    from mixserver.distill.results import JUDGED_BLEND

    kinds = {errors.of for one in result.candidates for errors in one.errors}
    hot = sorted((of for of in kinds if of.startswith("hot")), key=lambda of: (len(of), of))
    head = [
        "",
        "µs/atom",
        *(f"F {of}" for of in hot),
        "V (Å³)",
        "C11 C12 C44 (GPa)",
        f"ghost {JUDGED_BLEND:g} Å",
    ]
    seen = result.bulk
    rows = [
        [
            f"expensive: {result.expensive}",
            "",
            *("" for _ in hot),
            f"{seen.volume:.4f}",
            " ".join(f"{c:.1f}" for c in seen.cubic) if seen.cubic else "-",
            "",
        ]
    ]
    for one in (*result.candidates, *result.sweep):
        bulk, ghost = one.bulk, one.ghost(JUDGED_BLEND)
        forces = [one.forces(of) for of in hot]
        rows.append(
            [
                one.label + (" (recommended)" if one.label == result.recommended else ""),
                "-" if one.microseconds is None else f"{one.microseconds:.1f}",
                *("-" if force is None else f"{force:.3f}" for force in forces),
                "-" if bulk is None else f"{bulk.volume:.4f}",
                " ".join(f"{c:.1f}" for c in bulk.cubic)
                if bulk is not None and bulk.cubic
                else "-",
                "-" if ghost is None else f"{ghost.largest:.4f}",
            ]
        )
    return text_table(head, rows)
