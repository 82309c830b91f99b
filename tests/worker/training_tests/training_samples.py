"""A small training: two tiny MACEs of copper with labels of effective medium theory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from mixserver.wire.training import Agreement, ExpertJob, TrainingJob, TrainingMessage

SMALL = {
    "r_max": 3.5, "num_radial_basis": 4, "radial_MLP": [8], "hidden_irreps": "4x0e",
    "max_ell": 1, "correlation": 2, "num_interactions": 1, "MLP_irreps": "4x0e", "batch_size": 5,
    "loss": "stress", "ema": True, "ema_decay": 0.9, "scheduler": "ExponentialLR",
    "swa_energy_weight": 100.0, "swa_lr": 0.002,
}  # fmt: skip
LARGE = {**SMALL, "hidden_irreps": "4x0e + 4x1o", "num_interactions": 2}


def copper(count: int, seed: int = 0) -> list[Atoms]:
    """Hot cells of four atoms with labels; the first without a stress."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        atoms = bulk("Cu", a=3.6, cubic=True)
        atoms.positions += random.normal(0.0, 0.1, atoms.positions.shape)
        labelled = atoms.copy()
        labelled.calc = EMT()
        atoms.info["REF_energy"] = labelled.get_potential_energy()
        atoms.arrays["REF_forces"] = labelled.get_forces()
        if number:
            atoms.info["REF_stress"] = labelled.get_stress(voigt=False)
        made.append(atoms)
    return made


def job(folder: Path, frames: Sequence[Atoms] | None = None, **settings: Any) -> TrainingJob:
    """A training in a folder, which gets its data."""
    folder.mkdir(exist_ok=True)
    data = folder / "data.xyz"
    write(data, list(copper(10) if frames is None else frames), format="extxyz")
    tied = Agreement(data=(str(data),), energy=10.0, forces=10.0, start=1, ramp=2, batch=2)
    settings = {
        "large": ExpertJob(data=(str(data),), options=LARGE),
        "small": ExpertJob(data=(str(data),), options=SMALL),
        "agreement": tied,
        "epochs": 4,
        "stage_two": 2,
        "dtype": "float64",
        **settings,
    }
    return TrainingJob(engine="mace", folder=str(folder / "training"), **settings)


def run(wanted: TrainingJob, kill_after: int | None = None) -> list[TrainingMessage]:
    """Do a training in a process of its own; it is killed after an epoch if one is given."""
    folder = Path(wanted.folder).parent
    file = folder / "job.json"
    file.write_bytes(msgspec.json.encode(wanted))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mixserver_worker.training", str(file)],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found: list[TrainingMessage] = []
        assert process.stdout is not None
        for line in process.stdout:
            found.append(msgspec.json.decode(line, type=TrainingMessage))
            if kill_after is not None and getattr(found[-1], "epoch", -1) == kill_after:
                process.kill()
        process.stdout.close()
        process.wait()
    return found
