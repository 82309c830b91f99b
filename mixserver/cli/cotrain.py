"""`mixserver cotrain`: a small network trained to agree with a large one on the bulk."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.option("--quiet", is_flag=True, help="Print errors only.")
def cotrain(recipe: Path, quiet: bool) -> None:
    """Train a large and a small MACE together, so that they can be mixed.

    RECIPE is a cotrain.toml or its folder. The large expert learns all data. The small one learns
    its own, and to agree with the large one on bulk structures: site energies and forces. Leaves
    NAME-large.model, NAME-small.model and report.html in the recipe's folder; the small one serves
    as the cheap potential: mixserver-worker mace NAME-small.model --role cheap.
    Started again, it continues where it stopped.
    Exits with status 1 and the reasons if the verdict is fail.

    \b
    Example:
      mixserver cotrain cotrain.toml
    """
    import asyncio

    from mixserver.cli.distill import results_table
    from mixserver.cli.logs import configure
    from mixserver.cli.steps import shown, until_stopped
    from mixserver.core.errors import ConfigError
    from mixserver.cotrain.config.load import load_cotraining
    from mixserver.cotrain.pipeline import cotrain
    from mixserver.distill.report.verdict import verdict

    project = load_cotraining(recipe)
    project.folder.mkdir(parents=True, exist_ok=True)
    configure(project.folder / "cotrain.log")

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line)

    with shown(quiet=quiet) as show:
        made = asyncio.run(until_stopped(cotrain(project, show, tell)))
    if made is None:
        click.echo(f"stopped; to continue: mixserver cotrain {recipe}")
        raise SystemExit(130)
    grade, (head, *why) = verdict(made.result)
    if not quiet:
        click.echo(results_table(made.result))
        click.echo(f"models: {made.large}, {made.small}\nreport: {made.report}")
    if grade == "fail":
        raise ConfigError(" ".join([head, *why, "The files are kept for inspection."]))
    if not quiet:
        click.echo("\n".join([head, *(f"  * {sentence}" for sentence in why)]))
