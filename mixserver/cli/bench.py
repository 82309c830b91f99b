"""`mixserver bench`: what mixserver itself costs."""

from __future__ import annotations

import click


@click.group()
def bench() -> None:
    """Measure what mixserver itself costs on this machine."""


def _sizes(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    """Read "1000,8000"."""
    words = [word.strip() for word in value.split(",")]
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and int(word) > 0)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is no number of atoms; expected e.g. 1000,8000")
    return [int(word) for word in words]


@bench.command()
@click.option(
    "--atoms",
    default="1000,8000,64000",
    show_default=True,
    callback=_sizes,
    help="System sizes, with commas between them.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Counted, per size.",
)
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def overhead(atoms: list[int], evaluations: int, as_json: bool) -> None:
    """The server's own time per evaluation, with workers that answer at once."""
    import asyncio

    from mixserver.bench import as_text, measure, to_json
    from mixserver.cli.logs import configure

    configure(None)
    figures = [asyncio.run(measure(n, evaluations)) for n in atoms]
    click.echo(to_json(figures) if as_json else as_text(figures))
