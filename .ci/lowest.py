"""Prints pip constraints with the lowest versions that pyproject.toml allows.

Everything that mixserver depends on directly is pinned to its lower bound, and torch as
constraints.txt has it; for what these depend on, pip chooses what fits.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

KEPT = {"torch"}  # pip finds a small build of one version only
TOOLS = {"test", "lint"}  # extras that look at the code


def lowest(project: Path, pinned: Path) -> list[str]:
    """Lines of a constraints file.

    Raises:
        ValueError: a requirement without a lower bound.
    """
    table = tomllib.loads(project.read_text())["project"]
    wanted = [*table["dependencies"]]
    for name, extra in table["optional-dependencies"].items():
        wanted += extra if name not in TOOLS else []
    bounds: dict[str, str] = {}
    for requirement in wanted:
        match = re.fullmatch(r"([\w.-]+)(?:>=|==)([\w.]+)(?:;.*)?", requirement)
        if match is None:
            raise ValueError(f"{project}: {requirement!r} has no lower bound such as name>=1.2")
        bounds[match[1].lower()] = match[2]
    lines = [f"{name}=={low}" for name, low in bounds.items() if name not in KEPT]
    return lines + [line for line in pinned.read_text().splitlines() if line.split("==")[0] in KEPT]


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.stdout.write("\n".join(lowest(root / "pyproject.toml", root / "constraints.txt")) + "\n")
