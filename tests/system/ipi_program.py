"""i-PI's own programs as they are, but started with the few modules that they need.

``python -P ipi_program.py PROGRAM [ARGUMENTS]``; `ipi_program` is such a command. In half the time.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from mixserver.core.ipi_import import import_ipi


def ipi_program(name: str = "i-pi") -> list[str]:
    """The command that starts a program of i-PI; its arguments follow."""
    return [sys.executable, "-P", __file__, str(Path(sys.executable).parent / name)]


if __name__ == "__main__":
    import_ipi()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
