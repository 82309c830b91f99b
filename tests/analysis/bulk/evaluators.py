"""Models that are evaluated in this process, and crystals."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from mixserver_worker.engine import Engine, EngineResult

from mixserver.analysis.bulk.evaluate import EvaluationResult
from mixserver.core.frame import Frame, Topology
from mixserver.mixing.jobs import whole_system_job
from mixserver.wire.worker import Evaluate

LJ = {"epsilon": 0.02, "sigma": 3.4, "cutoff": 7.0}
"""Settings of the toy engine; three shells of neighbours in fcc."""
SNAP = "include Si_Zuo_JPCA2020.snap\n"
SW = "pair_style sw\npair_coeff * * Si.sw Si\n"
SIC = "pair_style tersoff\npair_coeff * * SiC.tersoff Si C\n"
ALUMINIUM = "pair_style eam/fs\npair_coeff * * Al_mm.eam.fs Al\n"


class CountingEvaluator:
    """Evaluates frames with an engine; counts the calls and how many were concurrent."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.count = self.at_once = self._now = 0

    async def __call__(self, frame: Frame) -> EvaluationResult:
        self.count += 1
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        await asyncio.sleep(0.0)
        self._now -= 1
        answer = self.engine.evaluate(whole_system_job(frame))
        return EvaluationResult(answer.energy, answer.forces, answer.virial)


class AseOf(Calculator):  # type: ignore[misc]
    """An engine as an ASE calculator, for independent calculations."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def calculate(self, atoms: Any = None, properties: Any = None, changes: Any = None) -> None:
        super().calculate(atoms, properties, changes or all_changes)
        answer = self.engine.evaluate(whole_system_job(frame_of(atoms)))
        stress = full_3x3_to_voigt_6_stress(-answer.virial / atoms.get_volume())
        self.results = {"energy": answer.energy, "forces": answer.forces, "stress": stress}


def frame_of(atoms: Atoms) -> Frame:
    topology = Topology(atoms.numbers.astype(np.int32), tuple(bool(p) for p in atoms.pbc))
    return topology.frame(np.array(atoms.positions), np.array(atoms.cell))


def atoms_of(frame: Frame, engine: Engine) -> Atoms:
    atoms = Atoms(frame.topology.numbers, frame.positions, cell=frame.cell, pbc=frame.topology.pbc)
    atoms.calc = AseOf(engine)
    return atoms


def lammps_engine(folder: Path, text: str) -> Engine:
    from mixserver_worker.engines.lammps.engine import LammpsEngine

    path = folder / "potential.in"
    path.write_text(text)
    return LammpsEngine(path)


class Single:
    """An engine whose answers are in single precision, and noisy by as much."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.card = engine, engine.card

    def evaluate(self, job: Evaluate) -> EngineResult:
        answer = self.engine.evaluate(job)
        rng = np.random.default_rng(zlib.crc32(job.positions.tobytes()))
        noise = rng.normal(scale=2e-6, size=answer.forces.shape)
        return EngineResult(
            float(np.float32(answer.energy)),
            answer.forces + noise,
            answer.virial + rng.normal(scale=1e-5, size=(3, 3)),
        )

    def close(self) -> None:
        self.engine.close()


def single(engine: Engine) -> Engine:
    return Single(engine)


def phi(r: np.ndarray) -> np.ndarray:
    """The toy engine's pair energy with the settings `LJ`, written once more."""
    eps, sigma, cut = LJ["epsilon"], LJ["sigma"], LJ["cutoff"]

    def lj(x: np.ndarray) -> np.ndarray:
        return 4.0 * eps * ((sigma / x) ** 12 - (sigma / x) ** 6)

    slope = -24.0 * eps / cut * (2.0 * (sigma / cut) ** 12 - (sigma / cut) ** 6)
    return np.where(r < cut, lj(r) - lj(np.array(cut)) - (r - cut) * slope, 0.0)


def fcc_neighbours(a: float) -> np.ndarray:
    """(m, 3) vectors to all neighbours within the cutoff in an fcc crystal."""
    lattice = 0.5 * a * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    steps = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3, indexing="ij"), -1).reshape(-1, 3)
    vectors = steps[(steps != 0).any(axis=1)] @ lattice
    return vectors[np.linalg.norm(vectors, axis=1) < LJ["cutoff"]]


def fcc_sum(a: float) -> float:
    """Energy per atom, eV."""
    return 0.5 * float(phi(np.linalg.norm(fcc_neighbours(a), axis=1)).sum())
