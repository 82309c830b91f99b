"""Decide whether a potential is evaluated in compiled code: if numba is there and LAMMPS agrees.

This module imports numba only where it is needed.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from mixserver.core.cache_folder import VARIABLE, cache_folder
from mixserver.core.errors import BadInput, ConfigError, MissingPackage
from mixserver_worker.engines.lammps.compiled.snap_files import NotCompiled, read_parameters
from mixserver_worker.engines.lammps.host_comparison import crystal, difference
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.library import LammpsError
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.lammps.weighting.site_weights import (
    WeightedPotential,
    WeightingScheme,
)

if TYPE_CHECKING:
    from mixserver_worker.engines.lammps.compiled.potential import CompiledPotential

Kernels = Literal["auto", "compiled", "lammps"]
_log = logging.getLogger("mixserver.lammps")
_KEPT_S: Final = 30 * 86400.0
"""Seconds for which compiled functions are kept that nothing uses: about 1 MB each time."""
_SAME: Final = 1e-9
"""Difference allowed, relative to the largest force: far above rounding, far below any mistake."""


def choose_kernels(
    kernels: Kernels, setup: PotentialSetup, scheme: WeightingScheme | None, reason: str
) -> CompiledPotential | None:
    """The potential for compiled code, on one rank; None if LAMMPS is to evaluate it.

    Args:
        kernels: "compiled" for that or an error, "lammps", or "auto": compiled where possible.
        setup: of the potential.
        scheme: how LAMMPS weights it; None if it cannot.
        reason: why it cannot.

    Raises:
        ConfigError: "compiled" is not possible; the message is the reason.
        MissingPackage: "compiled" needs numba.
    """
    if kernels == "lammps":
        return None
    try:
        return _compiled(setup, scheme, reason)
    except NotCompiled as problem:
        if kernels == "compiled":
            raise ConfigError(
                f"the potential cannot be evaluated in compiled code: {problem}. Leave out "
                "--kernels compiled, and LAMMPS evaluates it."
            ) from problem
        _log.info("LAMMPS evaluates all of the potential: %s", problem)
    except MissingPackage as problem:
        if kernels == "compiled":
            raise
        _log.info("LAMMPS evaluates SNAP; with numba it would be several times faster: %s", problem)
    return None


def _compiled(
    setup: PotentialSetup, scheme: WeightingScheme | None, reason: str
) -> CompiledPotential:
    if setup.accelerated:
        raise NotCompiled("LAMMPS was told to use an accelerator")
    if scheme is None:
        raise NotCompiled(f"its parts are not known, since {reason}")
    if not scheme.terms.snaps:
        raise NotCompiled("it has no SNAP")
    if scheme.many_body:
        raise NotCompiled("it has a many-body style beside SNAP")
    parameters = [read_parameters(snap) for snap in scheme.terms.snaps]
    choose_cache()
    try:
        from mixserver_worker.engines.lammps.compiled.potential import CompiledPotential
        from mixserver_worker.engines.lammps.compiled.snap import CompiledSnap
    except ImportError as error:
        raise MissingPackage("numba", "compiled") from error
    potential = CompiledPotential(
        setup=setup,
        cutoff=scheme.cutoff,
        snaps=tuple(CompiledSnap.of(one) for one in parameters),
        pairwise=scheme.terms.pairwise,
        curves=scheme.curves,
        tables=scheme.eam_tables,
    )
    _compare(potential, scheme)
    return potential


def choose_cache() -> None:
    """Keep compiled functions where that is possible: compiling takes up to half a minute.

    numba reads the variable when it is imported, and cannot be imported without a folder. Each
    state of the code has a folder of its own: numba compiles a function again when its own file has
    changed, but not when that of a function that it calls has.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "numba" / _digest(Path(__file__).parent)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        os.utime(folder)
        _remove_unused(folder.parent)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="mixserver-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _log.info(
            "compiled functions cannot be kept in %s (%s), so each start compiles them; choose "
            "another folder with %s",
            cache_folder(),
            error.strerror,
            VARIABLE,
        )
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


def _remove_unused(folder: Path) -> None:
    """Remove the functions of other states of the code that have not been used for long."""
    oldest = time.time() - _KEPT_S
    for one in folder.iterdir():
        with contextlib.suppress(OSError):  # another process does the same
            if one.stat().st_mtime < oldest:
                shutil.rmtree(one, ignore_errors=True)


def _digest(folder: Path) -> str:
    """A digest of the Python files in a folder."""
    texts = (file.read_bytes() for file in sorted(folder.glob("*.py")))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def _compare(potential: CompiledPotential, scheme: WeightingScheme) -> None:
    """Compare with LAMMPS on a few atoms, with and without weights.

    Raises:
        NotCompiled: the results differ, or one of both refuses.
    """
    from mixserver_worker.engines.lammps.compiled.potential import CompiledAtoms

    for job in _jobs(scheme.setup):
        try:
            if job.weight is None:
                with closing(LammpsInstance(scheme.setup, job, Ranks())) as instance:
                    expected = instance.evaluate(job)
            else:
                with closing(WeightedPotential(scheme, job, Ranks())) as weighted:
                    expected = weighted.evaluate(job)
            with closing(CompiledAtoms(potential, job, Ranks())) as atoms:
                got = atoms.evaluate(job)
        except (LammpsError, BadInput) as error:
            raise NotCompiled(f"{len(job.positions)} atoms were refused: {error}") from error
        apart = difference(got, expected)
        if expected.energies is not None and got.energies is not None:
            apart = max(apart, float(np.abs(got.energies - expected.energies).max()))
        if not apart <= _SAME:
            raise NotCompiled(
                f"it evaluates {len(job.positions)} atoms otherwise than LAMMPS, by {apart:.2g} of "
                "the largest force. Please report this with the potential's files"
            )


def _jobs(setup: PotentialSetup) -> list[RankJob]:
    """A crystal, and a tilted one that is open along an axis, each with and without weights."""
    periodic = crystal(setup, 4)
    tilt = np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [0.05, -0.1, 1.0]])
    tilted = replace(
        periodic,
        positions=periodic.positions @ tilt,
        cell=periodic.cell @ tilt,
        pbc=(True, False, True),
    )
    weights = np.random.default_rng(5).random(len(periodic.positions))
    weights[::3], weights[1::5] = 0.0, 1.0
    return [replace(job, weight=w) for job in (periodic, tilted) for w in (None, weights)]
