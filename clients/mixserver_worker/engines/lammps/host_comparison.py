"""Comparison of a potential on a device or with accelerated styles with the same on the host.

Accelerated styles are other code than the styles they stand for, and other code for small than for
large systems. If they were wrong, forces would be wrong without an error.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Final

import numpy as np

from mixserver.core.errors import ConfigError
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.instance import LammpsInstance
from mixserver_worker.engines.lammps.library import LammpsError
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup

_log = logging.getLogger("mixserver.lammps")
_SMALL, _LARGE = 2, 21
"""Atoms along each edge of a small and a large test system; SNAP on Kokkos has other kernels from
8192 atoms on."""
_SPACING: Final = 2.9
_DOUBLE, _REDUCED = 1e-6, 1e-2
"""Difference allowed, relative to the largest force, in double and in a reduced precision."""


def compare_with_host(setup: PotentialSetup, switches: str, *, reduced: bool) -> None:
    """Compare energy, forces and virial with the same potential on the host, unaccelerated.

    Args:
        setup: with switches for a device.
        switches: those, for the message.
        reduced: whether the device computes in less than double precision.

    Raises:
        ConfigError: they differ, or LAMMPS refuses on the device.
    """
    host = setup.on_host(setup.after_box, site_energies=setup.site_energies)
    for side in (_SMALL, _LARGE):
        job = crystal(setup, side)
        try:
            with closing(LammpsInstance(host, job, Ranks())) as instance:
                expected = instance.evaluate(job)
        except LammpsError as error:
            _log.warning(
                "the potential with %s was not compared with the same on the host, where LAMMPS "
                "refuses it: %s",
                switches,
                error,
            )
            return
        try:
            with closing(LammpsInstance(setup, job, Ranks(), test_fast_loop=False)) as instance:
                got = instance.evaluate(job)
        except LammpsError as error:
            raise ConfigError(
                f"LAMMPS with {switches} refuses {len(job.positions)} atoms that it evaluates "
                f"without: {error}"
            ) from error
        apart = difference(got, expected)
        if not apart <= (_REDUCED if reduced else _DOUBLE):
            raise ConfigError(
                f"LAMMPS with {switches} evaluates {len(job.positions)} atoms of this potential "
                f"otherwise than without: energy, forces or virial differ by {apart:.2g} of the "
                "largest force. The accelerated style or the device is not to be trusted; leave "
                "the switches out, or take another version of LAMMPS or of its package"
            )


def difference(got: EngineResult, expected: EngineResult) -> float:
    """Largest difference of energy and virial per atom and of forces, relative to the forces."""
    n = len(expected.forces)
    scale = max(1.0, float(np.abs(expected.forces).max()))
    found = [
        abs(got.energy - expected.energy) / n,
        float(np.abs(got.forces - expected.forces).max()),
        float(np.abs(got.virial - expected.virial).max()) / n,
    ]
    return float(np.max(found)) / scale  # NaN stays NaN


def crystal(setup: PotentialSetup, side: int) -> RankJob:
    """A periodic cubic crystal of all elements, atoms off their sites."""
    dice = np.random.default_rng(7)
    side = max(side, int(np.ceil((4 * len(setup.numbers)) ** (1 / 3))))
    grid = np.stack(np.meshgrid(*[np.arange(float(side))] * 3, indexing="ij"), -1).reshape(-1, 3)
    return RankJob(
        stream=0,
        positions=_SPACING * (grid + dice.uniform(-0.06, 0.06, grid.shape)),
        numbers=dice.permutation(np.resize(np.array(setup.numbers, np.int32), len(grid))),
        cell=np.eye(3) * _SPACING * side,
        pbc=(True, True, True),
        energies=setup.site_energies,
    )
