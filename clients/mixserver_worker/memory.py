"""Keeps an engine within the memory there is: a job that would need more is evaluated in parts.

Site energies add up, so the parts' energies, forces and virials do too, to rounding. What a job
needs is estimated from what earlier ones took; where that is wrong, the engine's own failure leads
to the same division.
"""

from __future__ import annotations

import contextlib
import logging
import math
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import msgspec
import numpy as np

from mixserver.core.bisection import bisect
from mixserver.core.cell import complete_cell, inverse_cell
from mixserver.core.errors import WorkerFault
from mixserver.wire.replicas import separate
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engine import Engine, EngineResult
from mixserver_worker.replicas import together

log = logging.getLogger(__name__)

_MARGIN: Final = 0.9
"""Of the available memory, that an estimate may take."""
_TELLING: Final = 64 << 20
"""Bytes; jobs that take less tell nothing about larger ones."""
_UNKNOWN: Final = 1 << 62
_PARTS: Final = 1 << 12
"""Streams of parts per stream of jobs."""


class OutOfMemory(WorkerFault):
    """A job needed more memory than there is."""


class Meter(Protocol):
    """Measures memory: that of the host, or of a GPU."""

    def start(self) -> None:
        """Begin to measure a job."""

    def taken(self) -> int:
        """Bytes that were taken since `start`, at most at one time."""

    def available(self) -> int:
        """Bytes that can be taken now."""


@runtime_checkable
class MeteredEngine(Engine, Protocol):
    """An engine whose memory grows with the sites of a job, and that honours site weights."""

    @property
    def memory(self) -> Meter:
        """Measures what its jobs take."""


class BoundedEngine:
    """Evaluates jobs that need too much memory in parts.

    Args:
        engine: evaluates one part at a time. It raises `OutOfMemory` where it can.
    """

    def __init__(self, engine: MeteredEngine) -> None:
        self._engine = engine
        self._per_site = 0.0
        """Bytes, of the largest job so far."""
        self._largest = 0
        """Sites of that job."""
        self._most = math.inf
        """Sites with which the memory was sufficient, once it was not."""

    @property
    def card(self) -> ModelCard:
        """The engine's."""
        return self._engine.card

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate a job, in parts if it has too many sites.

        Raises:
            BadInput: as the engine.
            WorkerFault: as the engine, or a single site is too much.
        """
        sites = int(np.count_nonzero(job.sites))
        most = self._fitting(sites)
        while True:
            try:
                if sites <= most:
                    return self._metered(job, sites)
                return self._in_parts(job, most)
            except OutOfMemory as error:
                if min(sites, most) <= 1:
                    raise
                most = self._most = max(1, math.ceil(min(sites, most) / 2))
                log.warning("%s Jobs are evaluated in parts of %d sites now.", error, most)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _fitting(self, sites: int) -> float:
        """How many sites the memory is sufficient for."""
        if sites <= self._largest or not self._per_site or sites > self._most:
            return self._most
        needed, available = self._per_site * sites, self._engine.memory.available()
        log.info(
            "a job of %d sites needs about %.1f GB; %.1f GB are available",
            sites,
            needed / 1e9,
            available / 1e9,
        )
        if needed <= _MARGIN * available:
            return self._most
        most = max(1, int(_MARGIN * available / self._per_site))
        log.warning("it is evaluated in parts of %d sites", most)
        return min(most, self._most)

    def _metered(self, job: Evaluate, sites: int) -> EngineResult:
        """Evaluate, and learn what a job takes if none was as large."""
        if sites <= self._largest:
            return self._engine.evaluate(job)
        self._engine.memory.start()
        result = self._engine.evaluate(job)
        taken = self._engine.memory.taken()
        if taken >= _TELLING:
            self._largest, self._per_site = sites, taken / sites
        return result

    def _in_parts(self, job: Evaluate, most: float) -> EngineResult:
        atoms = len(job.positions)
        energy, forces, virial = 0.0, np.zeros((atoms, 3)), np.zeros((3, 3))
        energies = np.zeros(atoms) if job.energies else None
        if job.replica is not None:
            return together([self.evaluate(one) for one in separate(job)])
        for part in parts(job, most):
            found = self._engine.evaluate(part)
            energy += found.energy
            forces += found.forces
            virial += found.virial
            if energies is not None and found.energies is not None:
                energies[part.sites] = found.energies[part.sites]
        return EngineResult(energy, forces, virial, energies)


def bounded(engine: Engine) -> Engine:
    """The engine, within its memory if it can measure that."""
    return BoundedEngine(engine) if isinstance(engine, MeteredEngine) else engine


def parts(job: Evaluate, most: float) -> list[Evaluate]:
    """Divide a job into some with at most so many sites each, whose results add up to its own."""
    weight = np.ones(len(job.positions)) if job.weight is None else job.weight
    atoms = np.flatnonzero(job.sites)
    full = complete_cell(job.cell, job.pbc)
    fractional = job.positions[atoms] @ inverse_cell(full)
    found = []
    for index, sites in enumerate(bisect(atoms, fractional, full, job.pbc, most)):
        own = np.zeros(len(weight))
        own[sites] = weight[sites]
        wanted = None
        if job.wanted is not None:
            wanted = np.zeros(len(weight), np.int32)
            wanted[sites] = job.wanted[sites]
        stream = -(job.stream * _PARTS + index % _PARTS) - 1
        found.append(msgspec.structs.replace(job, weight=own, wanted=wanted, stream=stream))
    return found


class HostMemory:
    """The memory of this machine, or what its control group may take of it.

    Elsewhere than on Linux nothing is known, and memory counts as sufficient.
    """

    def __init__(self, proc: Path = Path("/proc"), group: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._group = group
        self._idle: int | None = None
        """Bytes that this process had before its first job."""
        self._files = 0
        """How many of these were pages of files."""

    def start(self) -> None:
        """Forget the peak so far."""
        if self._idle is None:
            self._idle, self._files = self._own("VmRSS"), self._own("RssFile")
        with contextlib.suppress(OSError):  # else the peak since the start of the process counts
            (self._proc / "self/clear_refs").write_text("5", encoding="ascii")

    def taken(self) -> int:
        """Bytes by which the peak was above what there was before the first job.

        Without the pages of files (libraries) that were read since: the kernel drops those of an
        idle process and reads them again, which says nothing about a job.
        """
        return max(0, self._own("VmHWM") - (self._idle or 0) - self._read())

    def available(self) -> int:
        """Bytes that jobs can take without swapping, in this control group."""
        free = _kilobytes(self._proc / "meminfo", "MemAvailable")
        limit, used = self._of_group("memory.max"), self._of_group("memory.current")
        if free is None:
            return _UNKNOWN
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
        if self._idle is None:
            return free
        kept = max(0, self._own("VmRSS") - self._idle - self._read())
        return free + kept  # what earlier jobs have left allocated is used again

    def _read(self) -> int:
        """Bytes of files' pages that were read since the first job."""
        return max(0, self._own("RssFile") - self._files)

    def _own(self, name: str) -> int:
        return _kilobytes(self._proc / "self/status", name) or 0

    def _of_group(self, name: str) -> int | None:
        try:
            text = (self._group / name).read_text(encoding="ascii").strip()
        except OSError:
            return None
        return int(text) if text.isdigit() else None


def _kilobytes(file: Path, name: str) -> int | None:
    """Bytes from a line "NAME:   123 kB" of a file; None if there is none."""
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
    return None
