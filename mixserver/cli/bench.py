"""`mixserver bench`: what mixserver itself costs."""

from __future__ import annotations

import click


@click.group()
def bench() -> None:
    """Measure what mixserver itself costs on this machine."""


@bench.command()
@click.option("--atoms", default="1000,8000,64000", show_default=True, help="System sizes.")
@click.option("--evaluations", default=60, show_default=True, help="Counted, per size.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def overhead(atoms: str, evaluations: int, as_json: bool) -> None:
    """The server's own time per evaluation, with workers that answer at once."""
    import asyncio

    from mixserver.bench import as_text, measure, to_json
    from mixserver.cli.logs import configure

    configure(None)
    sizes = [int(n) for n in atoms.split(",")]
    figures = [asyncio.run(measure(n, evaluations)) for n in sizes]
    click.echo(to_json(figures) if as_json else as_text(figures))
