"""`mixserver check`: everything that can be known before a long run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.option("--quick", is_flag=True, help="Only what needs no model: files, atoms, shells.")
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="PNG to draw the ghost forces of energy mixing into, along the radius.",
)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON on stdout.")
def check(case: Path, quick: bool, figure: Path | None, as_json: bool) -> None:
    """Check all of CASE that can be known before a long run.

    Files and atoms, shells and cutoffs, models and forces, and the cost of a step. Where energies
    are mixed, also the zeros, the gradient of the mixed energy, and ghost forces: what mixing does
    at the interface.

    Ends with status 1 if something is wrong, 0 if there are only warnings.
    """
    if figure is not None and quick:
        raise click.UsageError("--figure needs the models: leave --quick out")
    if figure is not None and not figure.absolute().parent.is_dir():
        raise click.BadParameter(f"{figure.parent} is no folder", param_hint="--figure")
    import asyncio

    from mixserver.checks import check_case
    from mixserver.checks.findings import Finding, to_json
    from mixserver.cli.findings import counted, in_lines, width
    from mixserver.cli.logs import configure
    from mixserver.config import load_case

    configure(None)
    columns = width()

    def tell(finding: Finding) -> None:
        if not as_json:
            click.echo(in_lines(finding, columns))

    findings = asyncio.run(check_case(load_case(case), quick=quick, figure=figure, tell=tell))
    click.echo(to_json(findings) if as_json else counted(findings))
    if any(finding.level == "error" for finding in findings):
        raise SystemExit(1)
