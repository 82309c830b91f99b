"""Jobs that need more memory than there is are evaluated in parts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cells import frames
from hypothesis import given
from hypothesis import strategies as st
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.toy import ToyEngine
from mixserver_worker.memory import BoundedEngine, HostMemory, OutOfMemory, bounded, parts
from tolerance import EXACT

from mixserver.core.errors import WorkerFault
from mixserver.core.frame import Frame
from mixserver.wire.worker import Evaluate, ModelCard

MB = 1 << 20


class Scripted:
    """A meter that reads what it is given."""

    def __init__(self, per_site: int, free: int) -> None:
        self.per_site, self.free = per_site, free
        self.sites = 0

    def start(self) -> None:
        self.sites = 0

    def taken(self) -> int:
        return self.per_site * self.sites

    def available(self) -> int:
        return self.free


class Small:
    """The toy engine on a device that holds some sites only."""

    def __init__(self, holds: int, memory: Scripted | None = None) -> None:
        self._engine = ToyEngine(cutoff=3.0)
        self._holds = holds
        self.memory = memory or Scripted(0, 0)
        self.evaluated: list[int] = []

    @property
    def card(self) -> ModelCard:
        return self._engine.card

    def evaluate(self, job: Evaluate) -> EngineResult:
        sites = int(np.count_nonzero(job.sites))
        if sites > self._holds:
            raise OutOfMemory("out of memory.")
        self.evaluated.append(sites)
        self.memory.sites = max(self.memory.sites, sites)
        return self._engine.evaluate(job)

    def close(self) -> None:
        self._engine.close()


def job(frame: Frame, rng: np.random.Generator, *, weighted: bool, energies: bool) -> Evaluate:
    n = len(frame)
    weight = np.where(rng.random(n) < 0.6, rng.random(n), 0.0) if weighted else None
    wanted = (rng.random(n) < 0.3).astype(np.int32) if weighted and rng.random() < 0.5 else None
    cell = frame.cell if any(frame.topology.pbc) else np.zeros((3, 3))  # open: it says nothing
    return Evaluate(
        job=1,
        stream=int(rng.integers(0, 99)),
        positions=frame.positions,
        numbers=frame.topology.numbers,
        cell=cell,
        pbc=frame.topology.pbc,
        weight=weight,
        energies=energies,
        wanted=wanted,
    )


def crystal(atoms: int, rng: np.random.Generator) -> Evaluate:
    positions = rng.uniform(0.0, 20.0, (atoms, 3))
    return Evaluate(
        job=1,
        stream=3,
        positions=positions,
        numbers=np.full(atoms, 14, np.int32),
        cell=20.0 * np.eye(3),
        pbc=(True, True, False),
        energies=True,
    )


def same(found: EngineResult, wanted: EngineResult, sites: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(wanted.forces).max(initial=0.0)))
    assert found.energy == pytest.approx(wanted.energy, abs=EXACT * scale)
    np.testing.assert_allclose(found.forces, wanted.forces, atol=EXACT * scale)
    np.testing.assert_allclose(found.virial, wanted.virial, atol=EXACT * scale * 20)
    if wanted.energies is None:
        assert found.energies is None
    else:
        assert found.energies is not None
        np.testing.assert_allclose(
            found.energies[sites], wanted.energies[sites], atol=EXACT * scale
        )


@given(
    frames(atoms=16, smallest=4.0),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_parts_add_up_to_the_job(
    frame: Frame, most: int, weighted: bool, energies: bool, seed: int
) -> None:
    whole = job(frame, np.random.default_rng(seed), weighted=weighted, energies=energies)
    divided = parts(whole, most)
    assert all(1 <= np.count_nonzero(part.sites) <= most for part in divided)
    together = sum((part.sites for part in divided), start=np.zeros(len(frame), np.intp))
    np.testing.assert_array_equal(together, whole.sites)
    assert len({part.stream for part in divided} | {whole.stream}) == len(divided) + 1
    engine = ToyEngine(cutoff=3.0)
    small = BoundedEngine(Small(most))
    same(small.evaluate(whole), engine.evaluate(whole), whole.sites)


def test_a_job_that_does_not_fit_is_halved_and_so_are_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, rng = Small(30), np.random.default_rng(0)
    small, job = BoundedEngine(engine), crystal(100, rng)
    same(small.evaluate(job), ToyEngine(cutoff=3.0).evaluate(job), job.sites)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "evaluated in parts of 25 sites now" in caplog.text
    assert engine.evaluated == [25] * 4
    engine.evaluated.clear()
    small.evaluate(crystal(60, rng))
    assert engine.evaluated == [20] * 3
    assert len(caplog.records) == 2


def test_one_site_that_does_not_fit_is_the_workers_fault() -> None:
    with pytest.raises(OutOfMemory, match="out of memory") as caught:
        BoundedEngine(Small(0)).evaluate(crystal(5, np.random.default_rng(0)))
    assert isinstance(caught.value, WorkerFault)


def test_a_job_that_would_not_fit_is_divided_before_it_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rng = np.random.default_rng(0)
    engine = Small(1000, Scripted(per_site=10 * MB, free=500 * MB))
    small = BoundedEngine(engine)
    small.evaluate(crystal(20, rng))  # takes 200 MB
    assert not caplog.records
    job = crystal(90, rng)
    same(small.evaluate(job), ToyEngine(cutoff=3.0).evaluate(job), job.sites)
    assert engine.evaluated == [20, 45, 45]
    assert "a job of 90 sites needs about 0.9 GB; 0.5 GB are available" in caplog.text
    assert "it is evaluated in parts of 45 sites" in caplog.text
    engine.evaluated.clear()
    engine.memory.free = 5000 * MB  # another job has ended
    small.evaluate(crystal(90, rng))
    assert engine.evaluated == [90]


def test_an_engine_that_measures_nothing_stays_as_it_is() -> None:
    toy = ToyEngine(cutoff=3.0)
    assert bounded(toy) is toy
    small = Small(5)
    wrapped = bounded(small)
    assert isinstance(wrapped, BoundedEngine)
    assert wrapped.card is small.card


PEAKS = """
import numpy as np
from mixserver_worker.memory import HostMemory
memory = HostMemory()
memory.start()
block = np.ones(60 << 20)  # 480 MB
del block
first = memory.taken()
memory.start()
print(first, memory.taken(), memory.available())
"""


def test_the_peak_of_a_job_is_measured_and_that_of_the_one_before_forgotten() -> None:
    # in a process of its own, whose memory nothing else changes
    run = subprocess.run(
        [sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, timeout=300
    )
    first, second, available = (int(word) for word in run.stdout.split())
    assert 470 * MB < first < 600 * MB
    assert second < 100 * MB
    assert 0 < available < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_control_group_limits_what_is_available(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc", tmp_path / "group"
    (proc / "self").mkdir(parents=True)
    group.mkdir()
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:  8000 kB\n")
    (proc / "self/status").write_text("VmHWM:\t 700 kB\nVmRSS:\t 500 kB\n")
    memory = HostMemory(proc, group)
    assert memory.available() == 8000 * 1024
    (group / "memory.max").write_text("3072000\n")
    (group / "memory.current").write_text("1024000\n")
    assert memory.available() == 2000 * 1024
    (group / "memory.max").write_text("max\n")
    assert memory.available() == 8000 * 1024
    memory.start()
    assert memory.taken() == 200 * 1024
    (proc / "self/status").write_text("VmHWM:\t 950 kB\nVmRSS:\t 800 kB\nRssFile:\t 50 kB\n")
    assert memory.taken() == 400 * 1024  # 50 of them are a library's, read since
    assert memory.available() == 8250 * 1024  # 250 of them are kept by this process


def test_without_proc_memory_counts_as_sufficient(tmp_path: Path) -> None:
    memory = HostMemory(tmp_path, tmp_path)
    memory.start()
    assert memory.taken() == 0
    assert memory.available() > 1 << 60
