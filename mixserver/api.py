"""The Python interface for scripts and notebooks: cases, regions, mixed potentials, records.

```python
from mixserver.api import MixedCalculator, load_case, read_run, region_of

case = load_case("inputs/silicon_vacancy")
region = region_of(case, atoms)
records = read_run("inputs/silicon_vacancy/runs/latest")
```
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ase import Atoms

from mixserver.analysis.checks import Finding, check_case
from mixserver.analysis.records import RunRecords, read_run
from mixserver.ase import MixedCalculator, frame_of, log_errors_only
from mixserver.config import Case, CriterionSeeds
from mixserver.config import load_case as _load_case
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.structures import as_atoms
from mixserver.region.region import Region
from mixserver.server.reference.comparison import StructureComparison
from mixserver.server.reference.structure import read_reference
from mixserver.server.regions import build_region_model, uses

__all__ = [
    "Case",
    "ConfigError",
    "Finding",
    "MixedCalculator",
    "MixserverError",
    "Region",
    "RunRecords",
    "check",
    "load_case",
    "read_run",
    "read_structure",
    "region_of",
]


def load_case(path: str | Path) -> Case:
    """Read a case: a folder that holds a mix.toml, or the file itself.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is wrong.
    """
    return _load_case(Path(path))


def check(case: Case, *, quick: bool = False) -> list[Finding]:
    """What `mixserver check` finds about a case.

    Args:
        case: the case; its local workers start, unless `quick`, and end.
        quick: only the checks that evaluate no model.

    Returns:
        Findings in the order of the checks: `what` was looked at, `level` ("ok", "warning" or
        "error"), `message`, and `figure`, the number behind it in the unit that the message
        says, or None. Problems with the case are findings, too.
    """
    log_errors_only()
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has a running event loop
        return thread.submit(asyncio.run, check_case(case, quick=quick)).result()


def read_structure(case: Case) -> Atoms:
    """The structure of a case, its atoms in i-PI's order and its cell oriented as i-PI's is.

    Raises:
        ConfigError: it cannot be read, or it is not what i-PI starts from.
    """
    _, start = read_reference(case)
    return as_atoms(start)


def region_of(case: Case, atoms: Atoms | None = None) -> Region:
    """The region of a case at some positions: lambda of every atom, and the seeds.

    No model is evaluated.

    Args:
        case: must have a [region] whose seeds do not depend on what a model computes.
        atoms: the atoms of the case at other positions; None for the structure's own.

    Returns:
        A region with `lambda_`, (N,); `seeds`, (s,) atom indices; and the numbers of
        atoms in `core` and `blend`.

    Raises:
        ConfigError: no region, seeds that a criterion chooses, or other atoms.
        UpstreamError: the positions cannot be of the case's system.
    """
    table = case.config.region
    if table is None:
        raise ConfigError(f"{case.file} has no [region]")
    if isinstance(table.seeds, CriterionSeeds):
        raise ConfigError(
            f"{case.file} chooses its seeds by values that the cheap model's worker "
            "computes, so its region is not known without it; evaluate the atoms with "
            "MixedCalculator, whose region then is the one that was used"
        )
    log_errors_only()
    topology, start = read_reference(case)
    frame = start if atoms is None else frame_of(atoms, topology)
    refuse = case.config.upstream.mismatch == "refuse"
    StructureComparison(start, uses(case.config), refuse=refuse).check(frame)
    return build_region_model(case.config, start).evaluation(frame).region()
