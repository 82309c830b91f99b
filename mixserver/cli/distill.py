"""`mixserver distill`: a cheap SNAP from the expensive model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mixserver.distill.results import Result


@click.command()
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.option("--sweep", is_flag=True, help="Compare the recipe's resolutions and cutoffs too.")
@click.option("--quiet", is_flag=True, help="No progress, only errors.")
def distill(recipe: Path, sweep: bool, quiet: bool) -> None:
    """Distil a cheap potential from the expensive model of RECIPE.

    RECIPE is a distill.toml or its folder. Relaxes the crystal, lets i-PI move it at the recipe's
    temperatures, has the expensive model label it, and fits a SNAP and a pair potential under hard
    constraints. Leaves NAME.in for a lammps worker and report.html in the recipe's folder. Started
    again, it goes on where it was.
    Ends with status 1, and says why, if what was made is not fit to mix with.

    \b
    Examples:
      mixserver distill inputs/silicon_distill
      mixserver distill distill.toml --sweep
    """
    import asyncio

    from mixserver.cli.logs import configure
    from mixserver.cli.steps import shown
    from mixserver.distill.distil import Written, distil
    from mixserver.distill.reading import load_order
    from mixserver.distill.report.verdict import verdict
    from mixserver.errors import ConfigError
    from mixserver.launch import install_stop

    order = load_order(recipe)
    order.folder.mkdir(parents=True, exist_ok=True)
    configure(order.folder / "distill.log")

    async def job() -> Written | None:
        with shown(quiet=quiet) as show:
            work = asyncio.ensure_future(distil(order, show, sweep=sweep))
            # once: a second one would disturb the orderly end of i-PI
            stop = asyncio.Event()
            install_stop(asyncio.get_running_loop(), stop.set)
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                return None
            stopping.cancel()
            return work.result()

    written = asyncio.run(job())
    if written is None:
        click.echo(f"stopped; to go on: mixserver distill {recipe}")
        raise SystemExit(130)
    worth, (head, *why) = verdict(written.result)
    files = f"potential: {written.potential}\nreport: {written.report}"
    if not quiet:
        click.echo(_table(written.result))
        click.echo(files)
    if worth == "bad":
        raise ConfigError(" ".join([head, *why, "What was made is kept, to be looked at."]))
    if not quiet:
        click.echo("\n".join([head, *(f"  * {sentence}" for sentence in why)]))


def _table(result: Result) -> str:
    """What the candidates are worth, in a few columns."""
    kinds = {errors.of for one in result.candidates for errors in one.errors}
    hot = sorted((of for of in kinds if of.startswith("hot")), key=lambda of: (len(of), of))
    head = ["", "µs/atom", *(f"F {of}" for of in hot), "V (Å³)", "C11 C12 C44 (GPa)", "ghost 4 Å"]
    seen = result.portrait
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
        portrait, ghost = one.portrait, one.ghost(4.0)
        forces = [one.forces(of) for of in hot]
        rows.append(
            [
                one.label + (" (recommended)" if one.label == result.recommended else ""),
                "-" if one.microseconds is None else f"{one.microseconds:.1f}",
                *("-" if force is None else f"{force:.3f}" for force in forces),
                "-" if portrait is None else f"{portrait.volume:.4f}",
                " ".join(f"{c:.1f}" for c in portrait.cubic)
                if portrait is not None and portrait.cubic
                else "-",
                "-" if ghost is None else f"{ghost.largest:.4f}",
            ]
        )
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    )
