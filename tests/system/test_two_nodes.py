"""Two nodes in network namespaces, and a link that is cut in mid-run; toy models, for speed.

`python tests/chaos/two_nodes.py` does the same with LAMMPS on two ranks, and MACE.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANG_S

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))
from nodes import permitted

PROGRAM = Path(__file__).parents[1] / "chaos" / "two_nodes.py"
pytestmark = [
    pytest.mark.physics,
    pytest.mark.skipif(not permitted(), reason="network namespaces are not permitted here"),
]


def test_a_cut_link_changes_no_bit() -> None:
    program = [sys.executable, PROGRAM, "--toy", "--steps", "60", "--cut", "15"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=2 * HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all equal to the last bit" in done.stdout
