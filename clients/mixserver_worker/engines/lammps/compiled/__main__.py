"""``python -m mixserver_worker.engines.lammps.compiled``: compile before the first worker starts.

Compiling takes 10 to 30 s and is kept, so a machine on which many workers start at the same time
can do it once.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mixserver.core.errors import MixserverError
from mixserver_worker.engines.lammps.engine import LammpsEngine

_ALL_CODE: Final = """
pair_style hybrid/overlay zbl 3.0 3.5 snap
pair_coeff 1 1 zbl 14 14
pair_coeff * * snap Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si
"""
"""A potential whose comparison with LAMMPS at the start runs every compiled function."""


def main() -> int:
    """Compile; returns the exit status."""
    try:
        with TemporaryDirectory() as folder:
            commands = Path(folder, "potential.in")
            commands.write_text(_ALL_CODE, encoding="ascii")
            with closing(LammpsEngine(commands, kernels="compiled")):
                return 0
    except MixserverError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
