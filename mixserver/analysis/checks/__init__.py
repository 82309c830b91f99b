"""Pre-flight checks of a case: files first, then the models themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mixserver.analysis.case_workers import case_workers
from mixserver.analysis.checks.files import check_files
from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.limits import check_limits
from mixserver.analysis.checks.models import check_models
from mixserver.analysis.checks.planned_run import duration_findings
from mixserver.analysis.checks.quantities import timeout_findings
from mixserver.config import Case
from mixserver.core.errors import MixserverError
from mixserver.server.reference.structure import find_ipi_input

__all__ = ["Finding", "check_case"]


async def check_case(
    case: Case,
    *,
    quick: bool = False,
    figure: Path | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> list[Finding]:
    """Make the findings about a case, in the order of the checks.

    Problems that are checked do not raise. If `quick`, only the checks that need no model. `figure`
    is a PNG file to draw the ghost forces of energy mixing in. `on_finding` gets each finding as
    soon as it is known: those about files first, those about models later.
    """
    found: list[Finding] = []

    def report(findings: Sequence[Finding]) -> None:
        found.extend(findings)
        if on_finding is not None:
            for finding in findings:
                on_finding(finding)

    about_files, topology, start = check_files(case)
    report([*about_files, *check_limits(case, start)])
    if quick or topology is None or any(finding.level == "error" for finding in found):
        return found
    evaluated: list[Finding] = []
    try:
        async with case_workers(case) as parts:
            evaluated += await check_models(case, parts, figure)
    except* MixserverError as group:
        evaluated += [Finding("error", "workers", str(error)) for error in group.exceptions]
    cost = next((f.figure for f in evaluated if f.what == "cost" and f.figure is not None), None)
    if cost is not None and (ipi := find_ipi_input(case)) is not None:
        evaluated += duration_findings(case, ipi, cost) + timeout_findings(case, ipi, cost)
    report(evaluated)
    return found
