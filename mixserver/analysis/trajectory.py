"""The positions that i-PI wrote in a run and in the runs it continues, as one trajectory."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.analysis.run_properties import steps_before
from mixserver.core.arrays import Matrix, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.ipi.output import read_frames
from mixserver.server.runs import RESTART_INPUT

_HOW: Final = (
    "List <trajectory filename='pos' stride='50' cell_units='angstrom'> positions{angstrom} "
    "</trajectory> in <output> of input.xml"
)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Frames of one bead."""

    step: Scalars
    """(t,) ascending."""
    positions: Vectors
    """(t, N, 3) Å, unwrapped."""
    cells: tuple[Matrix, ...]
    """(t) of (3, 3) Å, rows."""


def read_trajectory(runs: Sequence[Path], atoms: int, most: int) -> Trajectory:
    """Join the positions of runs that continue each other, oldest first.

    Args:
        runs: their folders.
        atoms: of each frame.
        most: of more frames, evenly spaced ones are taken.

    Raises:
        ConfigError: i-PI wrote no positions in Å, or fewer than two frames.
    """
    found: dict[int, tuple[Vectors, Matrix]] = {}
    begun = [steps_before(run) for run in runs]
    for at, run in enumerate(runs):
        ends = begun[at + 1] if at + 1 < len(runs) else None
        file = positions_file(run)
        for step, positions, cell in read_frames(file, atoms) if file is not None else ():
            if ends is None or step <= ends:
                found[step] = (positions, cell)
    if len(found) < 2:
        raise ConfigError(
            f"{runs[-1]} has {len(found)} frames of positions in Å, two are the least. {_HOW}"
        )
    steps = sorted(found)
    steps = steps[:: -(-len(steps) // most)]
    return Trajectory(
        np.array(steps, dtype=np.float64),
        np.array([found[step][0] for step in steps]),
        tuple(found[step][1] for step in steps),
    )


def positions_file(run: Path) -> Path | None:
    """The file in which i-PI wrote positions of the first bead in Å; None if there is none."""
    for name in (RESTART_INPUT, "input.xml"):
        source = run / name
        if not source.is_file():
            continue
        output = ET.parse(source).getroot().find("output")  # noqa: S314 - the user's own file
        if output is None:
            return None
        prefix = output.get("prefix", "i-pi").strip()
        for node in output.iterfind("trajectory"):
            if (node.text or "").strip() != "positions{angstrom}":
                continue
            named = f"{prefix}.{node.get('filename', 'traj').strip()}"
            for file in sorted(run.glob(f"{named}_*.xyz")):
                return file
        return None
    return None
