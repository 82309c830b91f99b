"""A run whose terminal, or whatever its output was piped into, has gone: it goes on to its end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from limits import HANG_S

INPUTS = Path(__file__).parents[2] / "inputs"
BIN = Path(sys.executable).parent


def test_a_closed_pipe_ends_no_run_and_makes_it_no_failure(tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", case, ignore=shutil.ignore_patterns("runs"))
    with subprocess.Popen(
        [BIN / "mixserver", "run", case, "--steps", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(HANG_S) == 0
    assert len((case / "runs/0001/mixserver.jsonl").read_text().splitlines()) == 21
