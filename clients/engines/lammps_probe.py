"""What a potential is and can do, found out at start-up by trying it on a few atoms.

Knows the commands and LAMMPS; keeps nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from clients.engines.lammps_commands import Commands
from clients.engines.lammps_instance import Instance, Setup
from clients.engines.lammps_library import LammpsError
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_parts import NoWay
from clients.engines.lammps_planning import plan_weights
from clients.engines.lammps_weights import Plan
from mixserver.errors import ConfigError
from mixserver.private import private_folder

_CENTRED: Final = frozenset(
    {"snap", "mliap", "pod", "pace", "uf3", "eam", "eam/alloy", "eam/fs", "zbl", "zero", "morse"}
    | {"table", "lj/cut", "lj/smooth/linear", "lj/smooth", "buck", "born", "soft", "born/gauss"}
)
"""Styles that count the whole energy of a site there, so that it looks one cutoff far."""
_SHARED: Final = frozenset(
    {"sw", "sw/mod", "tersoff", "tersoff/mod", "tersoff/mod/c", "tersoff/zbl", "meam", "meam/c"}
    | {"meam/spline", "meam/sw/spline", "edip", "edip/multi", "vashishta", "vashishta/table", "adp"}
    | {"bop", "gw", "gw/zbl", "nb3b/harmonic", "nb3b/screened", "threebody/table"}
)
"""Styles that share three-body terms among their atoms: a site then sees two cutoffs. Of others
nobody here knows: a message-passing model looks layers x cutoff."""
_OPTIONS: Final = frozenset({"spline", "linear", "lookup", "bitmap", "model", "descriptor", "sna"})
"""Words in a pair_style that are no style."""
_ENDLESS: Final = ("/long", "/msm", "/dsf", "reaxff", "comb", "airebo", "rebo", "eim", "gpu/long")


def probed(read: Commands, lmp_args: Sequence[str], skin: float) -> tuple[Setup, float | None]:
    """Try the potential on a few atoms: does LAMMPS take it, and how far does it look?

    It is tried in an empty folder and without LAMMPS_POTENTIALS, so that LAMMPS can only read files
    that were found and are in the fingerprint.

    Raises:
        ConfigError: LAMMPS does not take it.
    """
    accelerated = any(word in ("-k", "-kokkos", "-sf", "-suffix") for word in lmp_args)
    n = 8 * len(read.numbers)
    grid = np.stack(np.meshgrid(*[np.arange(8.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    order = Order(
        stream=0,
        positions=2.9 * grid + 0.1 * np.sin(7.0 * grid[:, [1, 2, 0]] + grid),
        numbers=np.resize(np.array(read.numbers, np.int32), n),
        cell=np.eye(3) * 40.0,
        pbc=(True, True, True),
        energies=True,
        criterion="",
    )
    with private_folder() as folder, _nowhere(folder):
        log = Path(folder, "log")
        problem = ""
        for site_energies in (True, False):
            setup = Setup(
                before_box=read.before_box,
                after_box=read.after_box,
                numbers=read.numbers,
                arguments=tuple(lmp_args),
                skin=skin,
                site_energies=site_energies,
                accelerated=accelerated,
                files=read.files,
            )
            try:
                instance = Instance(setup, order, Ranks(), str(log))
                try:
                    result = instance.evaluate(order)
                finally:
                    instance.close()
            except LammpsError as error:
                problem = problem or str(error)
                continue
            whole = result.energies is None or bool(
                np.isclose(result.energies.sum(), result.energy, rtol=1e-8, atol=1e-8)
            )
            if not whole:
                continue
            found = re.search(
                r"master list distance cutoff = (\S+)", log.read_text(errors="replace")
            )
            return setup, round(float(found[1]) - skin, 9) if found else None
    raise ConfigError(
        f"LAMMPS does not take the potential in {read.source}: {problem}. "
        f"Types are {', '.join(f'{k} {e}' for k, e in enumerate(read.elements, 1))}."
        + _hint(problem)
    )


def _hint(problem: str) -> str:
    """Where files are looked for, if one is missing."""
    if "open" not in problem.lower():
        return ""
    return (
        " Files are looked for beside the commands file, in the current folder, in those of "
        "LAMMPS_POTENTIALS and among LAMMPS's own potentials; a name that LAMMPS makes up itself "
        "needs an absolute path."
    )


@contextlib.contextmanager
def _nowhere(folder: str) -> Iterator[None]:
    """Be in another folder, without LAMMPS's environment, inside this context."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    potentials = os.environ.pop("LAMMPS_POTENTIALS", None)
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(here)
        os.close(here)
        if potentials is not None:
            os.environ["LAMMPS_POTENTIALS"] = potentials


def receptive_field_of(styles: Sequence[str], cutoff: float | None) -> float | None:
    """How far a site energy looks, as LAMMPS divides the energy among the atoms."""
    plain = [re.sub(r"/(kk|omp|gpu|intel|opt)$", "", word) for word in styles]
    names = [word for word in plain if re.match(r"[a-z]", word)]
    if cutoff is None or any(mark in name for name in names for mark in _ENDLESS):
        return None
    parts = [n for n in names[1:] if n not in _OPTIONS] if "hybrid" in names[0] else names[:1]
    if not parts or {"unified", "mliappy"} & set(names):
        return None
    if all(name in _CENTRED for name in parts):
        return cutoff
    return 2.0 * cutoff if all(name in _CENTRED | _SHARED for name in parts) else None


def weighting_of(setup: Setup, cutoff: float | None) -> Plan | str:
    """How site energies are weighted, or why they cannot be."""
    try:
        return plan_weights(setup, cutoff)
    except NoWay as reason:
        return str(reason)
