"""Everything that can be known before a long run: files first, then the models themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mixserver.checks.files import check_files
from mixserver.checks.findings import Finding
from mixserver.checks.guards import check_guards
from mixserver.checks.models import check_models
from mixserver.checks.pool import pool
from mixserver.checks.quantities import timeout_findings
from mixserver.config import Case
from mixserver.errors import MixserverError
from mixserver.reference import input_of

__all__ = ["Finding", "check_case"]


async def check_case(
    case: Case,
    *,
    quick: bool = False,
    figure: Path | None = None,
    tell: Callable[[Finding], object] | None = None,
) -> list[Finding]:
    """Check a case.

    Args:
        case: the case.
        quick: only what needs no model.
        figure: PNG to draw ghost forces into, if energies are mixed; None for none.
        tell: is told every finding as soon as it is known: what the files say comes at once, what
            the models say later.

    Returns:
        What was found, in the order it was looked at. Never raises for what it checks.
    """
    told = tell if tell is not None else lambda finding: None
    found, topology, start = check_files(case)
    found += check_guards(case, start)
    for finding in found:
        told(finding)
    if quick or topology is None or any(f.level == "error" for f in found):
        return found
    asked: list[Finding] = []
    try:
        async with pool(case) as parts:
            asked += await check_models(case, parts, figure)
    except* MixserverError as group:
        asked += [Finding("error", "workers", str(error)) for error in group.exceptions]
    asked += _timeouts(case, asked)
    for finding in asked:
        told(finding)
    return found + asked


def _timeouts(case: Case, found: Sequence[Finding]) -> list[Finding]:
    """i-PI's patience against what an evaluation takes, where both are known."""
    cost = next((f.figure for f in found if f.what == "cost" and f.figure is not None), None)
    ipi = input_of(case) if cost is not None else None
    return [] if cost is None or ipi is None else timeout_findings(case, ipi, cost)
