"""Keeps both results of a spot check that failed, in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from mixserver.core.errors import ResultsDiffer

log = structlog.get_logger(__name__)

SPOT_CHECK: Final = "spot-check.npz"


def save_evidence(error: ResultsDiffer, folder: Path) -> None:
    """Save the job and both results, and name the file in the error. Must not fail."""
    file = folder / SPOT_CHECK
    try:
        arrays: dict[str, Any] = {name: np.asarray(v) for name, v in error.evidence.items()}
        np.savez(file, **arrays)
    except OSError as problem:
        log.warning("the results that differ were not saved", file=str(file), error=str(problem))
        return
    error.args = (f"{error}. Both results are saved: {file}", *error.args[1:])
