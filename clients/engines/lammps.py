"""LAMMPS in this process: any pair style, asked again and again without starting anew.

This file keeps instances, retries and talks to the other MPI ranks; `lammps_probe` finds out what
the potential can do, `lammps_planning` whether sites can be weighted, `lammps_instance` evaluates,
`lammps_weights` does so with site weights, `lammps_commands` reads the potential, `lammps_box`
turns cells, `lammps_library` is the binding.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from clients.engine import Answer
from clients.engines.lammps_commands import Commands, read_commands
from clients.engines.lammps_files import Spoken
from clients.engines.lammps_instance import Evaluated, Instance, LostAtoms, Setup
from clients.engines.lammps_library import LammpsAbort, LammpsError, Library, potentials
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.lammps_precision import inexact
from clients.engines.lammps_probe import probed, receptive_field_of, weighting_of
from clients.engines.lammps_weights import Plan, Weighted
from clients.engines.refuse import refuse_nonsense
from mixserver.errors import BadInput, ConfigError, MixserverError, WorkerFault
from mixserver.wire.worker import Evaluate, ModelCard

_log = logging.getLogger("mixserver.lammps")
_OF_ATOMS: Final = (
    "Pair distance < table inner cutoff",
    "Pair distance > table outer cutoff",
    "Non-numeric",
    "Neighbor list overflow",
    "Too many neighbor bins",
    "Out of range atoms",
)
"""What LAMMPS says where it is the atoms that are at fault: no other worker could do better."""

_TRACE: Final = 2.0**-100
"""The weight that LAMMPS gets for a site that shall not count and whose energy is wanted: lost in
rounding beside any other, in single precision too."""


class LammpsEngine:
    """LAMMPS as a worker.

    The commands file holds what a LAMMPS input holds between the box and the run, for example::

        pair_style   snap
        pair_coeff   * * Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si

    Variables and ``include`` work (``include Si_Zuo_JPCA2020.snap`` alone is a commands file).
    Which atom type is which element is read from the end of ``pair_coeff * *``; for styles that do
    not name elements say it as LAMMPS does: ``labelmap atom 1 Si 2 C``. Files are looked for beside
    the commands file, in the current folder, in those of the environment variable
    LAMMPS_POTENTIALS and among the potentials that come with LAMMPS. Units are metal.

    The fingerprint is of the commands with all variables filled in, of every file they name, of
    LAMMPS's version and, if it is not double, of the precision it computes in.

    Site weights are exact for SNAP, for pairwise styles and for their sum in a ``hybrid/overlay``;
    the card says whether. Tabulated forces that are not the slope of the tabulated energies are
    replaced by it, in evaluations with weights only.

    Under MPI all ranks make the engine; ranks above 0 then call `follow` instead of `evaluate`.

    Args:
        commands: the file.
        lmp_args: command line switches for LAMMPS, e.g. ``-k on g 1 -sf kk``.
        skin: Å that neighbour lists reach beyond the cutoff.
        elements: element of atom type 1, 2, ... if the file should not tell.
        receptive_field: Å that a site energy looks; None takes one cutoff where the style counts
            site energies whole, two where it shares them among atoms, none if it is long-ranged.
        comm: mpi4py communicator; None for this process alone.
        instances: how many sets of atoms (streams) are kept at a time.

    Raises:
        ConfigError: file, units, elements, potential files or LAMMPS switches are wrong.
        MissingPackage: lammps is not installed.
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
        instances: int = 8,
    ) -> None:
        if not 0.0 < skin < 10.0:
            raise ConfigError(f"the skin of LAMMPS's neighbour lists is {skin} Å; try 1")
        self._ranks = Ranks(comm)
        self._instances: OrderedDict[int | tuple[int, str], Instance | Weighted] = OrderedDict()
        self._most, self._closed = max(1, instances), False
        self._spoken = Spoken()
        environment = os.environ.get("LAMMPS_POTENTIALS", "").split(os.pathsep)
        folders = [Path(place) for place in environment if place] + potentials()
        # Rank 0 tries alone: an error while it reads a file would leave the others waiting.
        problem: MixserverError | None = None
        tried: tuple[Commands, Setup, float | None, Plan | str] | None = None
        if self._ranks.rank == 0:
            try:
                read = self._read(Path(commands), folders, elements, lmp_args)
                setup, cutoff = probed(read, lmp_args, skin)
                tried = (read, setup, cutoff, weighting_of(setup, cutoff))
            except MixserverError as error:
                problem = error
        told: str
        tried, told = self._ranks.from_root((tried, str(problem)))
        if tried is None:
            self._spoken.close()
            raise problem if problem is not None else ConfigError(told)
        read, setup, cutoff, weighting = tried
        self._setup: Setup = setup
        self._weighting: Plan | str = weighting
        for curve in weighting.curves if isinstance(weighting, Plan) else ():
            _log.info(
                "LAMMPS's forces between %s and %s are off the slope of its energies by %.1e eV/Å "
                "(a coarse table); with site weights they are that slope",
                *(read.elements[kind - 1] for kind in curve.kinds),
                curve.fault,
            )
        self._card = ModelCard(
            engine="lammps",
            name=read.source.name,
            fingerprint=read.fingerprint,
            species=tuple(sorted(read.numbers)),
            cutoff=cutoff,
            receptive_field=receptive_field or receptive_field_of(read.styles, cutoff),
            weights=isinstance(weighting, Plan),
            no_weights="" if isinstance(weighting, Plan) else weighting,
            energies=self._setup.site_energies,
            criteria=True,
        )

    @property
    def card(self) -> ModelCard:
        """What the potential is and can do."""
        return self._card

    @property
    def ranks(self) -> Ranks:
        """The MPI ranks this engine runs on."""
        return self._ranks

    def evaluate(self, job: Evaluate) -> Answer:
        """Evaluate one job; rank 0 only.

        Raises:
            BadInput: NaN, an unknown element, atoms on top of each other, a criterion LAMMPS
                refuses, site weights other than 1 for a potential that takes none.
                It also is what LAMMPS says of the positions themselves.
            WorkerFault: LAMMPS failed otherwise, in a fresh instance too.
        """
        refuse_nonsense(job, self._card.species, self._card.name)
        weight = job.weight
        if weight is not None and (weight == 1.0).all():
            weight = None
        if weight is not None:
            # LAMMPS weights energies itself and gives back w e: those of no weight need a trace,
            # a power of two, so that it goes in and out without rounding
            weight = np.where(job.sites & (weight == 0.0), _TRACE, weight)
        if weight is not None and isinstance(self._weighting, str):
            raise BadInput(
                f"job {job.job}: LAMMPS cannot weight site energies of {self._card.name}, because "
                f"{self._weighting}. It can for SNAP, for pairwise styles, and for their sum in a "
                "hybrid/overlay; with other potentials use force mixing."
            )
        if not re.fullmatch(r"[\w/.*+:\- ]*", job.criterion):
            raise BadInput(f"job {job.job}: {job.criterion!r} is no LAMMPS compute")
        n = len(job.positions)
        if n == 0:
            nothing = np.zeros(0) if job.energies else None
            values = np.zeros(0) if job.criterion else None
            return Answer(0.0, np.zeros((0, 3)), np.zeros((3, 3)), nothing, values)
        order = Order(
            job.stream,
            job.positions,
            job.numbers,
            job.cell,
            job.pbc,
            job.energies,
            " ".join(job.criterion.split()),
            weight,
        )
        self._ranks.tell(order)
        result = self._together(order)
        if not (np.isfinite(result.energy) and np.isfinite(result.forces).all()):
            raise BadInput(
                f"job {job.job}: LAMMPS's energy is {result.energy} eV and not all forces are "
                "finite. Atoms have come too close to each other; look at the last frames."
            )
        if job.weight is not None and not job.weight.any():  # nor is a trace of them left
            still = np.zeros((3, 3))
            return Answer(0.0, np.zeros((n, 3)), still, result.energies, result.values)
        return Answer(result.energy, result.forces, result.virial, result.energies, result.values)

    def follow(self) -> None:
        """Ranks above 0: evaluate along with rank 0 until it closes its engine."""
        while (order := self._ranks.next()) is not None:
            try:
                self._together(order)
            except MixserverError:
                continue  # rank 0 has the same error and tells the server
        self.close()

    def close(self) -> None:
        """End LAMMPS, and let the other ranks go."""
        if self._closed:
            return
        self._closed = True
        if self._ranks.rank == 0:
            self._ranks.dismiss()
        for instance in self._instances.values():
            instance.close()
        self._instances.clear()
        self._spoken.close()

    def _read(
        self,
        source: Path,
        folders: Sequence[Path],
        elements: Sequence[str] | None,
        lmp_args: Sequence[str],
    ) -> Commands:
        """The commands, as this LAMMPS with these switches understands them."""
        try:
            library = Library(["-log", "none", *lmp_args])
        except LammpsError as error:
            said = f"LAMMPS does not start with {' '.join(lmp_args)!r} for {source}: {error}"
            raise ConfigError(said) from error
        try:
            read = read_commands(source, folders, elements, shell=library, spoken=self._spoken)
            how = [f"LAMMPS {library.version}", *inexact(library, lmp_args, read.before_box)]
        finally:
            library.close()
        digest = hashlib.sha256("\n".join([read.fingerprint, *how]).encode())
        return replace(read, fingerprint=digest.hexdigest())

    def _together(self, order: Order) -> Evaluated:
        """Evaluate on all ranks; a second time in a fresh instance if LAMMPS fails."""
        try:
            try:
                return self._instance(order).evaluate(order)
            except LammpsAbort:
                raise
            except LammpsError as error:
                _log.warning("LAMMPS: %s; trying again with a fresh instance", error)
            self._forget(_key(order))
            return self._instance(order).evaluate(order)
        except LammpsAbort as error:
            self._ranks.abort(error)
            self._forget(_key(order))
            raise WorkerFault(f"LAMMPS aborted: {error}") from error
        except LostAtoms as error:
            self._forget(_key(order))
            raise BadInput(
                f"{error}, in a fresh instance too: the atoms have flown apart"
            ) from error
        except LammpsError as error:
            self._forget(_key(order))
            if any(words in str(error) for words in _OF_ATOMS):
                raise BadInput(f"LAMMPS refuses these positions: {error}") from error
            raise WorkerFault(f"LAMMPS failed, in a fresh instance too: {error}") from error
        except MixserverError:
            raise
        except BaseException as error:
            self._ranks.abort(error)
            raise

    def _instance(self, order: Order) -> Instance | Weighted:
        """The instance that holds these atoms. Every rank comes to the same choice."""
        key = _key(order)
        found = self._instances.get(key)
        if found is not None and _same(found, order):
            self._instances.move_to_end(key)
            return found
        if found is not None:
            self._forget(key)
        if len(self._instances) >= self._most:
            for other, instance in self._instances.items():
                if _same(instance, order):
                    self._instances[key] = self._instances.pop(other)
                    return instance
            self._forget(next(iter(self._instances)))
        made: Instance | Weighted
        if order.weight is not None and isinstance(self._weighting, Plan):
            made = Weighted(self._weighting, order, self._ranks)
        else:
            made = Instance(self._setup, order, self._ranks)
        if not made.lean:
            _log.warning("LAMMPS on this device misses new positions; using slow full set-ups")
        self._instances[key] = made
        return made

    def _forget(self, key: int | tuple[int, str]) -> None:
        gone = self._instances.pop(key, None)
        if gone is not None:
            gone.close()


def _key(order: Order) -> int | tuple[int, str]:
    """What an instance is kept by: weighted and plain ones of a stream live side by side."""
    return order.stream if order.weight is None else (order.stream, "weighted")


def _same(instance: Instance | Weighted, order: Order) -> bool:
    return (
        isinstance(instance, Weighted) == (order.weight is not None)
        and instance.pbc == order.pbc
        and np.array_equal(instance.numbers, order.numbers)
    )
