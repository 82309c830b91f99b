"""`mixserver reorder`: write the structure with its atoms in i-PI's order."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to write the structure, as extxyz.",
)
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the atoms in i-PI's order, instead of what i-PI's input starts from.",
)
def reorder(case: Path, output: Path, like: Path | None) -> None:
    """Write CASE's structure with its atoms in i-PI's order.

    Atoms are matched by element and place, after the best common shift; positions and cell stay
    those of the structure. Prints what to set in mix.toml then, with the new indices of seeds.

    \b
    Examples:
      mixserver reorder my_case -o my_case/ordered.xyz
      mixserver reorder my_case -o ordered.xyz --like other/init.xyz
    """
    from mixserver.analysis.reorder import as_text, reorder_case, write
    from mixserver.config import load_case

    found = reorder_case(load_case(case), like)
    if not found.moved:
        click.echo("The structure has its atoms in i-PI's order already; nothing is written.")
        return
    write(found, output)
    click.echo(as_text(found, output))
