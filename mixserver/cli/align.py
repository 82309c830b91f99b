"""`mixserver align`: put the two models' zeros of energy on one another."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="What was found as JSON on stdout.")
def align(case: Path, as_json: bool) -> None:
    """Find the zeros of energy of CASE's models, and its dead loads.

    Starts the local workers, asks both models about CASE's structure, and writes mixing.json into
    CASE. Runs use it as long as models, structure, [region] and [mixing] stay the same; without it
    every run finds out for itself when it begins.

    \b
    Example:
      mixserver align inputs/silicon_nve
    """
    import asyncio

    from mixserver.checks.align import align_case, as_text, to_json
    from mixserver.cli.logs import configure
    from mixserver.config import load_case

    configure(None)
    alignment = asyncio.run(align_case(load_case(case)))
    click.echo(to_json(alignment) if as_json else as_text(alignment))
