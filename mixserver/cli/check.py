"""`mixserver check`: pre-flight checks of a case."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from mixserver.analysis.checks.findings import Finding

_SIGN: Final = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
_NAMES: Final = 19
"""Columns for the subject; a few are longer."""
_NARROW: Final = 99
"""Columns of a terminal that is too narrow for a wide margin."""


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--quick",
    is_flag=True,
    help="Only what needs no evaluation: files, atoms, options, i-PI's input.",
)
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="PNG to draw the ghost forces of energy mixing into, along the radius.",
)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON on stdout.")
def check(case: Path, quick: bool, figure: Path | None, as_json: bool) -> None:
    """Check all of CASE that can be known before a long run.

    What i-PI will do and how long that takes; files, atoms, units and options; shells and cutoffs,
    models and forces; the cost of a step, and whether mixing is faster than the expensive model
    alone. For energy mixing also the energy offsets, the gradient of the mixed energy, and ghost
    forces at the interface.

    Exit status 1 if there are errors, 0 if there are only warnings.
    """
    if figure is not None and quick:
        raise click.UsageError("--figure needs the models: leave --quick out")
    if figure is not None and not figure.absolute().parent.is_dir():
        raise click.BadParameter(f"{figure.parent} is not a folder", param_hint="--figure")
    import asyncio

    from mixserver.analysis.checks import check_case
    from mixserver.analysis.checks.findings import to_json
    from mixserver.cli.logs import configure
    from mixserver.config import load_case

    configure(None)
    columns = width()

    def show(finding: Finding) -> None:
        if not as_json:
            click.echo(in_lines(finding, columns))

    findings = asyncio.run(check_case(load_case(case), quick=quick, figure=figure, on_finding=show))
    click.echo(to_json(findings) if as_json else counted(findings))
    if any(finding.level == "error" for finding in findings):
        raise SystemExit(1)


def width() -> int | None:
    """Columns of the terminal; None if stdout is not a terminal, so that lines stay whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def in_lines(finding: Finding, columns: int | None) -> str:
    """A finding as text; beyond so many columns (None: never) it goes on in an indented line."""
    head = f"{_SIGN[finding.level]}  {finding.what:<{_NAMES}}  "
    margin = " " * (
        len(_SIGN["ok"]) + 2 + (_NAMES + 2 if columns is None or columns > _NARROW else 0)
    )
    first, *rest = finding.message.splitlines() or [""]
    lines = [f"{head}{first}", *(f"{margin}{line}" for line in rest)]
    if columns is None:
        return "\n".join(lines)
    return "\n".join(
        textwrap.fill(
            line,
            columns,
            subsequent_indent=margin,
            drop_whitespace=True,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def counted(findings: Sequence[Finding]) -> str:
    """The summary in the last line."""
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    return f"{len(findings)} things looked at: errors {errors}, warnings {warnings}"
