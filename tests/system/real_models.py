"""Two real models in this process, mixed by energies as mixserver mixes them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from clients.engine import Engine
from mixserver.arrays import Scalars
from mixserver.frame import Frame
from mixserver.mixing import Mixed, Reach
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.mixer import about_all
from mixserver.record.structures import read_structure
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
            expensive=Reach.of(self.expensive.card),
            cheap=Reach.of(self.cheap.card),
            zeros=self.zeros(frame),
        )

    def zeros(self, frame: Frame) -> Scalars:
        """(N,) eV."""
        job = about_all(frame, energies=True)
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
        route: Literal["weights", "parts"] = "weights",
    ) -> Mixed:
        """One mixed evaluation."""
        clusters = mixer.carve(frame, region)
        theirs = [ask(self.expensive, job) for job in mixer.expensive(frame, region, clusters)]
        if route == "parts":
            asked, questions = mixer.parts(frame, region)
            parts = (asked, [ask(self.cheap, job) for job in questions])
            plain = ask(self.cheap, mixer.plain(frame))
            return mixer.mix(frame, region, clusters, plain, theirs, parts)
        ours = ask(self.cheap, mixer.cheap(frame, region)) if mixer.needs_cheap(region) else None
        return mixer.mix(frame, region, clusters, ours, theirs)


@contextlib.contextmanager
def pair(cheap: Path, expensive: Path, dtype: Literal["float64", "float32"]) -> Iterator[Pair]:
    """A LAMMPS potential and a MACE model."""
    from clients.engines.lammps import LammpsEngine
    from clients.engines.mace import MaceEngine
    from clients.engines.threads import prepare_torch

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
