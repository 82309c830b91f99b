"""Two real models in this process, mixed by energies as mixserver mixes them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from mixing_routes import Route, mix
from mixserver_worker.engine import Engine

from mixserver.core.arrays import Scalars
from mixserver.core.frame import Frame
from mixserver.core.structures import read_structure
from mixserver.mixing import MixedResult, ModelCapabilities
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.jobs import whole_system_job
from mixserver.region import Region
from mixserver.wire.worker import Evaluate, Result

INPUTS = Path(__file__).parents[2] / "inputs"
Divide = Callable[[Frame], Region]


@dataclass
class Pair:
    """A cheap and an expensive model."""

    cheap: Engine
    expensive: Engine

    def mixer(self, frame: Frame) -> EnergyMixer:
        """The zeros are the mean differences of all atoms of an element."""
        return EnergyMixer(
            expensive=ModelCapabilities.of(self.expensive.card),
            cheap=ModelCapabilities.of(self.cheap.card),
            offsets=self.zeros(frame),
        )

    def zeros(self, frame: Frame) -> Scalars:
        """(N,) eV."""
        job = whole_system_job(frame, energies=True)
        expensive, cheap = ask(self.expensive, job).energies, ask(self.cheap, job).energies
        assert expensive is not None
        assert cheap is not None
        found = np.zeros(len(frame))
        for number in np.unique(frame.topology.numbers):
            mine = frame.topology.numbers == number
            found[mine] = (expensive - cheap)[mine].mean()
        return found

    def mixed(
        self,
        mixer: EnergyMixer,
        frame: Frame,
        region: Region,
        route: Route = "weights",
    ) -> MixedResult:
        """One mixed evaluation."""
        return mix(
            mixer,
            frame,
            region,
            lambda job: ask(self.cheap, job),
            lambda job: ask(self.expensive, job),
            route,
        )


@contextlib.contextmanager
def pair(cheap: Path, expensive: Path, dtype: Literal["float64", "float32"]) -> Iterator[Pair]:
    """A LAMMPS potential and a MACE model."""
    from mixserver_worker.engines.lammps.engine import LammpsEngine
    from mixserver_worker.engines.mace.engine import MaceEngine
    from mixserver_worker.engines.threads import prepare_torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare_torch(1)
        mace = MaceEngine(str(expensive), device="cpu", dtype=dtype)
    lammps = LammpsEngine(cheap)
    try:
        yield Pair(lammps, mace)
    finally:
        lammps.close()
        mace.close()


def ask(engine: Engine, job: Evaluate) -> Result:
    """What a worker would send back."""
    answer = engine.evaluate(job)
    return Result(
        job=job.job,
        energy=answer.energy,
        forces=answer.forces,
        virial=answer.virial,
        energies=answer.energies,
    )


def read(file: Path) -> Frame:
    """The structure of a case."""
    return read_structure(file)[1]


def shaken(frame: Frame, by: float, seed: int = 1) -> Frame:
    """All atoms moved at random."""
    moved = np.random.default_rng(seed).normal(0.0, by, frame.positions.shape)
    return frame.topology.frame(frame.positions + moved, frame.cell)
