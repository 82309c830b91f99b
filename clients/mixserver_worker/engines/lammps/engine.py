"""The LAMMPS engine: evaluates jobs of the server with any pair style, on all MPI ranks.

Connects the steps that the package's docstring lists; keeps instances between jobs, so that a job
of the same atoms needs no set-up.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mixserver.core.errors import BadInput, ConfigError, MixserverError
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.capabilities import LammpsCapabilities, detect_capabilities
from mixserver_worker.engines.lammps.commands import Commands, read_commands
from mixserver_worker.engines.lammps.compiled.choice import Kernels, choose_kernels
from mixserver_worker.engines.lammps.files import AsciiPaths
from mixserver_worker.engines.lammps.instance_pool import InstancePool
from mixserver_worker.engines.lammps.library import LammpsError, LammpsLibrary
from mixserver_worker.engines.lammps.loading import bundled_potentials
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.precision import reduced_precision
from mixserver_worker.engines.validate_job import validate_job

if TYPE_CHECKING:
    from mixserver_worker.engines.lammps.compiled.potential import CompiledPotential

_log = logging.getLogger("mixserver.lammps")
_TINY_WEIGHT: Final = 2.0**-100
"""Weight of a site that does not count but whose energy is wanted: lost in rounding beside other
weights, in single precision too."""


class LammpsEngine:
    """LAMMPS as a worker.

    The commands file has the lines of a LAMMPS input between the box and the run, for example::

        pair_style   snap
        pair_coeff   * * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si

    Variables and ``include`` work (``include Si_Zuo_JPCA2020.snap`` alone is a commands file).
    The elements of atom types are read from the end of ``pair_coeff * *``; styles without element
    names need a line such as ``labelmap atom 1 Si 2 C``. Files are searched for beside the commands
    file, in the current folder, in the folders of the environment variable LAMMPS_POTENTIALS and
    among the potentials that come with LAMMPS. Units are metal.

    The fingerprint covers the commands with variables evaluated, every file that they name,
    LAMMPS's version and its precision if that is not double.

    Site weights are exact for SNAP, EAM, Stillinger-Weber, Tersoff, Vashishta, UF3, for pairwise
    styles and for their sums in a ``hybrid/overlay``; the card reports whether they are possible.
    In evaluations with weights, forces of tables are the slope of the tabulated energies. With
    weights, three-body and bond-order energies belong to their central atoms, not to all of them
    as in LAMMPS's pe/atom; this engine's site energies are then always those.

    Under MPI all ranks make the engine; ranks above 0 then call `follow` instead of `evaluate`.

    Args:
        commands: the file.
        lmp_args: command line switches for LAMMPS, e.g. ``-k on g 1 -sf kk``.
        skin: Å by which neighbour lists extend beyond the cutoff.
        elements: element of atom type 1, 2, ...; None takes those of the file.
        receptive_field: Å on which a site energy depends; None takes one cutoff where the style
            assigns an energy to its central atom, two where it divides the energy among atoms,
            and leaves it unknown for long-ranged and unknown styles.
        comm: mpi4py communicator; None for this process alone.
        kernels: "lammps", "compiled" (SNAP and weighted pairs in compiled code), or "auto":
            compiled where that is possible and agrees with LAMMPS.
        threads: of each rank, for compiled code (LAMMPS's own take ranks, or switches).
        instances: number of LAMMPS instances (one per stream) that are kept.

    Raises:
        ConfigError: file, units, elements, potential files or LAMMPS switches are wrong.
        MissingPackage: lammps is not installed, or numba for "compiled".
    """

    def __init__(
        self,
        commands: Path,
        *,
        lmp_args: Sequence[str] = (),
        skin: float = 1.0,
        elements: Sequence[str] | None = None,
        receptive_field: float | None = None,
        comm: Any = None,
        kernels: Kernels = "lammps",
        threads: int = 1,
        instances: int = 8,
    ) -> None:
        if not 0.0 < skin < 10.0:
            raise ConfigError(f"the skin of LAMMPS's neighbour lists is {skin} Å; try 1")
        if threads < 1:
            raise ConfigError(f"threads must be 1 or more, got {threads}")
        self._ranks, self._closed = Ranks(comm), False
        self._ascii_paths = AsciiPaths()
        # Rank 0 tries alone: an error while it reads a file would leave the others waiting.
        problem: MixserverError | None = None
        tried: tuple[Commands, LammpsCapabilities, CompiledPotential | None] | None = None
        if self._ranks.rank == 0:
            try:
                read = self._read(Path(commands), elements, lmp_args)
                found = detect_capabilities(read, lmp_args, skin)
                reason = found.not_weightable
                compiled = choose_kernels(kernels, found.setup, found.scheme, reason)
                tried = read, found, compiled
            except MixserverError as error:
                problem = error
        message: str
        tried, message = self._ranks.broadcast_object((tried, str(problem)))
        if tried is None:
            self._ascii_paths.close()
            raise problem if problem is not None else ConfigError(message)
        read, found, compiled = tried
        self.pool = InstancePool(
            found.setup, found.scheme, self._ranks, max(1, instances), compiled, threads
        )
        for curve in found.scheme.curves if found.scheme is not None else ():
            _log.info(
                "LAMMPS's forces between %s and %s differ from the slope of its energies by %.1e "
                "eV/Å (a coarse table); evaluations with site weights use the slope",
                *(read.elements[type_ - 1] for type_ in curve.types),
                curve.inconsistency,
            )
        self._card = ModelCard(
            engine="lammps",
            name=read.source.name,
            fingerprint=read.fingerprint,
            species=tuple(sorted(read.numbers)),
            cutoff=found.cutoff,
            receptive_field=receptive_field or found.receptive_field,
            weights=found.scheme is not None,
            no_weights=found.not_weightable,
            energies=found.setup.site_energies,
            criteria=True,
            dtype="float32" if read.reduced else "float64",
        )

    @property
    def card(self) -> ModelCard:
        """Identity and capabilities of the potential."""
        return self._card

    @property
    def ranks(self) -> Ranks:
        """The MPI ranks that evaluate."""
        return self._ranks

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate one job; rank 0 only.

        Raises:
            BadInput: NaN, an unknown element, overlapping atoms, a criterion or positions that
                LAMMPS refuses, site weights other than 1 for a potential without weights.
            WorkerFault: LAMMPS failed otherwise, in a new instance too.
        """
        validate_job(job, self._card.species, self._card.name)
        weight = job.weight
        if weight is not None and (weight == 1.0).all():
            weight = None
        if weight is not None:
            # LAMMPS returns w e. Where only e is wanted, w is a power of two, so that the product
            # and the quotient are exact.
            weight = np.where(job.sites & (weight == 0.0), _TINY_WEIGHT, weight)
        if weight is not None and not self._card.weights:
            raise BadInput(
                f"job {job.job}: LAMMPS cannot weight site energies of {self._card.name}, because "
                f"{self._card.no_weights}. SNAP, EAM, sw, tersoff, vashishta, uf3, pairwise styles "
                "and their sums in a hybrid/overlay can be weighted; with other potentials use "
                "force mixing."
            )
        scheme = self.pool.scheme
        if weight is None and job.energies and scheme is not None and not scheme.as_lammps:
            weight = np.ones(len(job.positions))  # so that site energies are always the same ones
        if not re.fullmatch(r"[\w/.*+:\- ]*", job.criterion):
            raise BadInput(f"job {job.job}: {job.criterion!r} is not a LAMMPS compute")
        n = len(job.positions)
        if n == 0:
            energies = np.zeros(0) if job.energies else None
            values = np.zeros(0) if job.criterion else None
            return EngineResult(0.0, np.zeros((0, 3)), np.zeros((3, 3)), energies, values)
        rank_job = RankJob(
            job.stream,
            job.positions,
            job.numbers,
            job.cell,
            job.pbc,
            job.energies,
            " ".join(job.criterion.split()),
            weight,
        )
        self._ranks.broadcast(rank_job)
        result = self.pool.evaluate(rank_job)
        if not (np.isfinite(result.energy) and np.isfinite(result.forces).all()):
            raise BadInput(
                f"job {job.job}: LAMMPS's energy is {result.energy} eV and not all forces are "
                "finite. Atoms have come too close to each other; inspect the last frames."
            )
        if job.weight is not None and not job.weight.any():  # drop what tiny weights contributed
            zero = np.zeros((n, 3)), np.zeros((3, 3))
            return EngineResult(0.0, *zero, result.energies, result.values)
        return result

    def follow(self) -> None:
        """Ranks above 0: evaluate along with rank 0 until it closes its engine."""
        while (job := self._ranks.receive()) is not None:
            try:
                self.pool.evaluate(job)
            except MixserverError:
                continue  # rank 0 has the same error and reports it
        self.close()

    def close(self) -> None:
        """End LAMMPS on all ranks."""
        if self._closed:
            return
        self._closed = True
        if self._ranks.rank == 0:
            self._ranks.release()
        self.pool.close()
        self._ascii_paths.close()

    def _read(
        self, source: Path, elements: Sequence[str] | None, lmp_args: Sequence[str]
    ) -> Commands:
        """The commands as this LAMMPS with these switches interprets them."""
        environment = os.environ.get("LAMMPS_POTENTIALS", "").split(os.pathsep)
        folders = [Path(place) for place in environment if place] + bundled_potentials()
        try:
            started = LammpsLibrary(["-log", "none", *lmp_args])
        except LammpsError as error:
            raise ConfigError(
                f"LAMMPS does not start with {' '.join(lmp_args)!r} for {source}: {error}"
            ) from error
        with closing(started) as library:
            read = read_commands(
                source, folders, elements, interpreter=library, ascii_path=self._ascii_paths
            )
            version = f"LAMMPS {library.version}"
            precision = reduced_precision(library, lmp_args, read.before_box)
        digest = hashlib.sha256("\n".join([read.fingerprint, version, *precision]).encode())
        return replace(read, fingerprint=digest.hexdigest(), reduced=precision)
