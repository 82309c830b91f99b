"""Velocities in structure files: taken where their unit is beyond doubt, else left out in words."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms

from mixserver.core.arrays import Vectors
from mixserver.core.errors import ConfigError

_KNOWN: Final = {
    "extxyz",
    "traj",
    "json",
    "db",
    "bundletrajectory",
    "netcdftrajectory",
    "vasp",
}
"""Formats whose velocities or momenta, as ASE reads them, have a unit beyond doubt."""


def known_velocities(file: Path, atoms: Atoms) -> tuple[Vectors | None, tuple[str, ...]]:
    """Velocities in Å/fs where their unit is known, and what was left out otherwise.

    Args:
        file: the file.
        atoms: as ASE read them from it.

    Returns:
        (N, 3) Å/fs, or None if there are none or only zeros; sentences about what was left out.

    Raises:
        ConfigError: some are not finite.
    """
    from ase import units  # noqa: PLC0415 - heavy
    from ase.io.formats import filetype  # noqa: PLC0415 - heavy

    columns = [name for name in atoms.arrays if name.lower().startswith(("vel", "vx"))]
    kind = filetype(str(file))
    if columns:
        return None, (
            f"its column {columns[0]} is not carried over: the file does not say in which unit. "
            "ASE writes velocities with a known one: atoms.set_velocities(...), atoms.write(...)",
        )
    moving = atoms.get_velocities() if atoms.has("momenta") else np.zeros((len(atoms), 3))
    if not np.any(moving):
        return None, ()
    if kind not in _KNOWN:
        return None, (
            f"its velocities are not carried over: ASE does not know their unit in {kind}; write "
            "the structure as extxyz with momenta (ASE: atoms.set_velocities(...))",
        )
    if kind == "vasp" and not _cartesian_velocities(file, len(atoms)):
        return None, (
            "its velocities are not carried over: they are in direct coordinates per timestep "
            "(POTIM), which the file does not name. Write them as Cartesian, in Å/fs",
        )
    if not np.isfinite(moving).all():
        raise ConfigError(f"structure {file}: some velocities are not finite numbers")
    return np.ascontiguousarray(moving * units.fs, dtype=np.float64), ()


def _cartesian_velocities(file: Path, count: int) -> bool:
    """Whether the line above a POSCAR's velocities says Å/fs, as an empty one does too."""
    lines = file.read_text(encoding="utf-8").splitlines()
    modes = (at for at, line in enumerate(lines) if at > 5 and line.strip()[:1] in set("DdCcKk"))
    above = next(modes, 0) + 1 + count
    if lines[above : above + 1] and lines[above].strip()[:1] in set("Ll"):
        above += 8  # a block with the lattice's velocities comes first
    return lines[above].strip()[:1] in {"", *"CcKk"}
