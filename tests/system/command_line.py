"""The `mixserver` command on copies of a case, as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from limits import HANG_S

INPUTS = Path(__file__).parents[2] / "inputs"
BIN = Path(sys.executable).parent


def minimal_case(parent: Path) -> Path:
    """A copy of the minimal case."""
    folder = parent / "case"
    shutil.copytree(INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
    return folder


def edit(file: Path, *changes: tuple[str, str] | str) -> None:
    """Replace texts that must be there: edit(file, old, new) or edit(file, (old, new), ...)."""
    pairs = [changes] if isinstance(changes[0], str) else changes
    text = file.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def mixserver(
    *arguments: str | Path,
    timeout: float = HANG_S,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [BIN / "mixserver", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )


def mixserver_done(*arguments: str | Path) -> None:
    """Run the command to its end, which must be a success."""
    done = mixserver(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
