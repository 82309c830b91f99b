"""Detect the capabilities of a potential by evaluating a few atoms in LAMMPS at start-up."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.core.errors import ConfigError
from mixserver.core.scratch import scratch_directory
from mixserver_worker.engines.lammps.commands import Commands
from mixserver_worker.engines.lammps.host_comparison import compare_with_host
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.library import LammpsError
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup, is_accelerated
from mixserver_worker.engines.lammps.weighting.scheme import find_scheme
from mixserver_worker.engines.lammps.weighting.site_weights import WeightingScheme
from mixserver_worker.engines.lammps.weighting.split_styles import NotWeightable

_CENTRAL: Final = frozenset(
    {"snap", "mliap", "pod", "pace", "uf3", "eam", "eam/alloy", "eam/fs", "zbl", "zero", "morse"}
    | {"table", "lj/cut", "lj/smooth/linear", "lj/smooth", "buck", "born", "soft", "born/gauss"}
)
"""Styles that assign an energy to its central atom: a site depends on one cutoff."""
_DIVIDED: Final = frozenset(
    {"sw", "sw/mod", "tersoff", "tersoff/mod", "tersoff/mod/c", "tersoff/zbl", "meam", "meam/c"}
    | {"meam/spline", "meam/sw/spline", "edip", "edip/multi", "vashishta", "vashishta/table", "adp"}
    | {"bop", "gw", "gw/zbl", "nb3b/harmonic", "nb3b/screened", "threebody/table"}
)
"""Styles that divide three-body terms among their atoms: a site depends on two cutoffs. The
receptive field of other styles is unknown; for message passing it is layers x cutoff."""
_OPTIONS: Final = frozenset({"spline", "linear", "lookup", "bitmap", "model", "descriptor", "sna"})
"""Words of a pair_style line that are not styles."""
_LONG_RANGED: Final = (
    "/long",
    "/msm",
    "/dsf",
    "reaxff",
    "comb",
    "airebo",
    "rebo",
    "eim",
    "gpu/long",
)


@dataclass(frozen=True, slots=True)
class LammpsCapabilities:
    """What LAMMPS can do with a potential."""

    setup: PotentialSetup
    cutoff: float | None
    """Å; None if LAMMPS does not report it."""
    receptive_field: float | None
    """Å on which a site energy depends; None if unknown or infinite."""
    scheme: WeightingScheme | None
    """How site energies are weighted; None if they cannot be."""
    not_weightable: str
    """The reason why there is no scheme; else ""."""


def detect_capabilities(read: Commands, lmp_args: Sequence[str], skin: float) -> LammpsCapabilities:
    """Evaluate a few atoms in LAMMPS, on one rank.

    This happens in an empty folder and without LAMMPS_POTENTIALS, so that LAMMPS can only read
    files that were found and are covered by the fingerprint.

    Raises:
        ConfigError: LAMMPS refuses the potential.
    """
    setup, cutoff = _evaluated(read, lmp_args, skin)
    if setup.accelerated:
        compare_with_host(setup, " ".join(map(repr, lmp_args)), reduced=bool(read.reduced))
    scheme, reason = None, ""
    try:
        scheme = find_scheme(setup, cutoff)
    except NotWeightable as error:
        reason = str(error)
    return LammpsCapabilities(
        setup, cutoff, receptive_field_of(read.styles, cutoff), scheme, reason
    )


def _evaluated(
    read: Commands, lmp_args: Sequence[str], skin: float
) -> tuple[PotentialSetup, float | None]:
    """The set-up with which LAMMPS evaluates the potential, and the cutoff that it reports."""
    job = _few_atoms(read.numbers)
    with scratch_directory() as folder, _isolated(folder):
        log = Path(folder, "log")
        problem = ""
        for site_energies in (True, False):
            setup = PotentialSetup(
                before_box=read.before_box,
                after_box=read.after_box,
                numbers=read.numbers,
                arguments=tuple(lmp_args),
                skin=skin,
                site_energies=site_energies,
                accelerated=is_accelerated(lmp_args, read.before_box),
                files=read.files,
            )
            try:
                with contextlib.closing(LammpsInstance(setup, job, Ranks(), str(log))) as instance:
                    result = instance.evaluate(job)
            except LammpsError as error:
                problem = problem or str(error)
                continue
            complete = result.energies is None or bool(
                np.isclose(result.energies.sum(), result.energy, rtol=1e-8, atol=1e-8)
            )
            if not complete:
                continue
            found = re.search(
                r"master list distance cutoff = (\S+)", log.read_text(errors="replace")
            )
            return setup, round(float(found[1]) - skin, 9) if found else None
    raise ConfigError(
        f"LAMMPS refuses the potential in {read.source}: {problem}. "
        f"Types are {', '.join(f'{k} {e}' for k, e in enumerate(read.elements, 1))}."
        + _hint(problem)
    )


def _few_atoms(numbers: Sequence[int]) -> RankJob:
    n = 8 * len(numbers)
    grid = np.stack(np.meshgrid(*[np.arange(8.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    return RankJob(
        stream=0,
        positions=2.9 * grid + 0.1 * np.sin(7.0 * grid[:, [1, 2, 0]] + grid),
        numbers=np.resize(np.array(numbers, np.int32), n),
        cell=np.eye(3) * 40.0,
        pbc=(True, True, True),
        energies=True,
    )


def _hint(problem: str) -> str:
    """Where files are searched for, if one is missing."""
    if "open" not in problem.lower():
        return ""
    return (
        " Files are searched for beside the commands file, in the current folder, in the folders "
        "of LAMMPS_POTENTIALS and among LAMMPS's own potentials; a name that LAMMPS itself "
        "composes needs an absolute path."
    )


@contextlib.contextmanager
def _isolated(folder: str) -> Iterator[None]:
    """Work in another folder and without LAMMPS_POTENTIALS inside this context."""
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
    """The radius on which a site energy depends, Å, by how LAMMPS divides energies among atoms."""
    plain = [re.sub(r"/(kk|omp|gpu|intel|opt)$", "", word) for word in styles]
    names = [word for word in plain if re.match(r"[a-z]", word)]
    if cutoff is None or any(mark in name for name in names for mark in _LONG_RANGED):
        return None
    parts = [n for n in names[1:] if n not in _OPTIONS] if "hybrid" in names[0] else names[:1]
    if not parts or {"unified", "mliappy"} & set(names):
        return None
    if all(name in _CENTRAL for name in parts):
        return cutoff
    return 2.0 * cutoff if all(name in _CENTRAL | _DIVIDED for name in parts) else None
