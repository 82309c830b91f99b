"""Everything that can be known before a long run: files first, then the models themselves."""

from __future__ import annotations

from pathlib import Path

from mixserver.checks.files import check_files
from mixserver.checks.findings import Finding
from mixserver.checks.models import check_models
from mixserver.checks.pool import pool
from mixserver.config import Case
from mixserver.errors import MixserverError

__all__ = ["Finding", "check_case"]


async def check_case(
    case: Case, *, quick: bool = False, figure: Path | None = None
) -> list[Finding]:
    """Check a case.

    Args:
        case: the case.
        quick: only what needs no model.
        figure: PNG to draw ghost forces into, if energies are mixed; None for none.

    Returns:
        What was found, in the order it was looked at. Never raises for what it checks.
    """
    found, topology, _ = check_files(case)
    if quick or topology is None or any(f.level == "error" for f in found):
        return found
    try:
        async with pool(case) as parts:
            found += await check_models(case, parts, figure)
    except* MixserverError as group:
        found += [Finding("error", "workers", str(error)) for error in group.exceptions]
    return found
