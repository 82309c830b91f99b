"""A case's mixed potential as an ASE calculator, evaluated by local workers.

```python
from ase.optimize import FIRE
from mixserver.ase import MixedCalculator

with MixedCalculator("inputs/silicon_vacancy") as calculator:
    atoms = calculator.structure()
    FIRE(atoms).run(fmax=0.02)
```

ASE's optimisers, NEB, phonons and molecular dynamics then work on the mixed potential. It is the
same evaluation that i-PI is served: the same region, clusters, limits and comparison with the
case's structure.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - registers its end, which must come after ours
import contextlib
import logging
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

import numpy as np
import structlog
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from mixserver.analysis.case_workers import case_workers
from mixserver.config import Case, load_case
from mixserver.core.errors import ConfigError, MixserverError
from mixserver.core.frame import Frame, Topology
from mixserver.core.structures import as_atoms
from mixserver.region.region import Region
from mixserver.server.build import Parts
from mixserver.server.records.report import Report
from mixserver.wire.ipi import Reply, Request

_Evaluated = tuple[Reply, Report, Region | None]
_open: Final[weakref.WeakSet[_Server]] = weakref.WeakSet()


class MixedCalculator(Calculator):  # type: ignore[misc]
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) of a case's mixed potential.

    The case's `[[local]]` workers start with the calculator and end with `close`, at the end of a
    `with` block, or with the interpreter. Under force mixing no energy belongs to the forces: the
    energy is the one that i-PI would be sent (`report.energy_is`), so use optimisers that
    follow forces only.

    Args:
        case: a case, its folder, or its mix.toml.

    Raises:
        ConfigError: the case cannot be read or starts no workers itself.
        MixserverError: a worker could not start.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, case: Case | str | Path) -> None:
        super().__init__()
        self.case = case if isinstance(case, Case) else load_case(Path(case))
        self.bead = 0
        self.report: Report | None = None
        """What a run would record about the last evaluation: sizes of the region, how far the
        models differ, times in ms."""
        self.region: Region | None = None
        """The region of the last evaluation: `lambda_` is (N,). Without a [region] it is the same
        for all atoms."""
        self._server = _Server(self.case)

    def image(self, bead: int) -> MixedCalculator:
        """A calculator for another replica, on the same workers.

        Images of a NEB each need one: the region of a replica follows that replica alone.

        Args:
            bead: the replica's index, from 0.
        """
        other = object.__new__(type(self))
        Calculator.__init__(other)
        other.case, other.bead = self.case, bead
        other.report = other.region = None
        other._server = self._server
        return other

    def structure(self) -> Atoms:
        """The case's structure with this calculator attached.

        Its atoms are in i-PI's order, and its cell is oriented as i-PI's is.
        """
        atoms = as_atoms(self._server.parts.start)
        atoms.calc = self
        return atoms

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the mixed potential; called by ASE.

        Raises:
            ConfigError: these are not the atoms of the case.
            MixserverError: the evaluation failed, or the calculator is closed.
        """
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        frame = frame_of(self.atoms, self._server.parts.topology)
        reply, self.report, self.region = self._server.evaluate(
            Request(frame.positions, frame.cell, bead=self.bead)
        )
        self.results = {"energy": reply.energy, "free_energy": reply.energy, "forces": reply.forces}
        if any(frame.topology.pbc):
            self.results["stress"] = full_3x3_to_voigt_6_stress(-reply.virial / frame.volume)

    def close(self) -> None:
        """End the workers. Images made from this calculator end with it."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def frame_of(atoms: Atoms, topology: Topology) -> Frame:
    """The frame of ASE atoms that must be those of a topology.

    Args:
        atoms: in the topology's order. Where they do not repeat, missing lattice vectors are
            replaced by unit vectors.
        topology: the case's.

    Raises:
        ConfigError: other elements, another order of elements, or other periodic directions.
        UpstreamError: another number of atoms, positions that are not finite, a cell without
            volume.
    """
    frame = topology.frame(
        np.array(atoms.positions, dtype=np.float64), np.array(atoms.cell.complete(), np.float64)
    )
    wrong = np.flatnonzero(atoms.numbers != topology.numbers)
    if len(wrong):
        at = int(wrong[0])
        raise ConfigError(
            f"atom {at} (counted from 0) is {chemical_symbols[atoms.numbers[at]]}, but the case's "
            f"structure has {chemical_symbols[topology.numbers[at]]} there. Use the structure's "
            "atoms in its order, for example those of MixedCalculator.structure()"
        )
    if tuple(bool(axis) for axis in atoms.pbc) != topology.pbc:
        raise ConfigError(
            f"the atoms have pbc = {atoms.pbc.tolist()}, but the case's structure has "
            f"{list(topology.pbc)}; set atoms.pbc, or upstream.periodic in mix.toml"
        )
    return frame


def log_errors_only() -> None:
    """Keep events of the server out of a script's output, unless it configured structlog itself."""
    if not structlog.is_configured():
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


class _Server:
    """The parts of a case with their workers, on an event loop of their own thread."""

    def __init__(self, case: Case) -> None:
        log_errors_only()
        started: Future[_Running] = Future()
        self._thread = threading.Thread(target=_run, args=(case, started), name="mixserver")
        self._thread.start()
        try:
            self._running = started.result()
        except BaseException:
            if not started.done():
                started.cancel()
            raise
        self.parts = self._running.parts
        self._finalizer = weakref.finalize(self, self._running.stop)
        _open.add(self)

    def evaluate(self, request: Request) -> _Evaluated:
        """Evaluate one request, from any thread.

        Raises:
            MixserverError: the evaluation failed, or this is closed.
        """
        if not self._finalizer.alive or not self._thread.is_alive():
            raise MixserverError("the calculator is closed; make a new one")
        evaluation = self._running.evaluate(request)
        future = asyncio.run_coroutine_threadsafe(evaluation, self._running.loop)
        try:
            return future.result()
        except CancelledError as error:
            raise MixserverError("the calculator was closed during an evaluation") from error
        finally:
            future.cancel()  # an interrupted script does not leave a job behind

    def close(self) -> None:
        """End the workers and the thread; twice does no harm."""
        self._finalizer()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class _Running:
    """What other threads may use of a running server."""

    loop: asyncio.AbstractEventLoop
    parts: Parts
    stopped: asyncio.Event
    recorded: dict[int, tuple[Report, Region | None]] = field(default_factory=dict)
    """The last evaluation of each bead."""

    async def evaluate(self, request: Request) -> _Evaluated:
        """Evaluate one request on the event loop."""
        reply = await self.parts.answer(request)
        return reply, *self.recorded.pop(request.bead or 0)

    def record(self, report: Report, region: Region | None) -> None:
        """Keep what is known about an evaluation until its reply is there."""
        self.recorded[report.bead] = (report, region)

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self.loop.call_soon_threadsafe(self.stopped.set)


def _run(case: Case, started: Future[_Running]) -> None:
    """The thread: serve until stopped."""

    async def serve() -> None:
        async with case_workers(case) as parts:
            running = _Running(asyncio.get_running_loop(), parts, asyncio.Event())
            parts.recorder.observer = running.record
            if started.set_running_or_notify_cancel():
                started.set_result(running)
                await running.stopped.wait()

    try:
        asyncio.run(serve())
    except BaseException as error:
        if started.cancelled():  # the script was interrupted, and is not interested
            return
        if started.done():
            raise
        started.set_exception(error)


def _close_all() -> None:
    for server in list(_open):
        server.close()


# atexit is too late: the interpreter ends executors first, then waits for threads. Of what is
# registered here the last comes first
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
