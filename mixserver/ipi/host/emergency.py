"""The RESTART of a simulation that cannot go on: in the run's folder, or where there is room."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Final

from ipi.utils.softexit import softexit

_RESTART: Final = Path("RESTART")


def write_restart(simulation: Any, reason: str) -> str:
    """Have i-PI write its RESTART; elsewhere, if it cannot be written where i-PI runs.

    Returns:
        Where it is and what to do with it, if it is elsewhere; else "".
    """
    for _ in range(1 + len(softexit.flist)):  # a step of it that fails is not done again
        with contextlib.suppress(OSError):
            softexit.cleanup(status="restartable", message=f" @HOST: {reason}")
            break
    if _complete(_RESTART):
        return ""
    text = simulation.chk.status.write(name="simulation")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="RESTART-", suffix=".xml", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
    except OSError as error:
        return f"Its RESTART could not be written anywhere: {error.strerror}."
    return f"Its RESTART is {file.name}: move it to {_RESTART.absolute()}."


def _complete(file: Path) -> bool:
    try:
        return "</simulation>" in file.read_text(encoding="utf-8", errors="replace")[-100:]
    except OSError:
        return False
