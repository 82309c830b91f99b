"""Whole distillations of compounds: what is written does in LAMMPS what the report foretold."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.loading import bundled_potentials
from numpy.typing import NDArray
from report_files import read_result
from snap_files import read_snap
from tolerance import EXACT

from mixserver.distill.data.labels import label_rows, load_labels
from mixserver.distill.data.splits import split_structures
from mixserver.distill.fitting.pair_basis import PairBasis
from mixserver.distill.potential.writer import write_potential
from mixserver.distill.results import Candidate, Result
from mixserver.wire.descriptor import SnapDescriptor
from mixserver.wire.worker import Evaluate

pytestmark = [pytest.mark.lammps, pytest.mark.timeout(1800)]
MIXSERVER = Path(sys.executable).with_name("mixserver")
VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))

ALLOY = "NiAlH_jea.eam.alloy"
NICKEL_ALUMINIDE = """
name = "nial"
structure = "crystal.xyz"
[expensive]
command = ["lammps", "expensive.in"]
[potential]
elements = ["Ni", "Al"]
twojmax = 2
cutoff = 4.4
radii = [0.5, 0.54]
weights = [1.0, 0.8]
bzero = false
reference = "core.in"
[pair]
functions = 12
cutoff = 5.6
[soft]
temperatures = [300]
atoms = 54
snapshots = 20
timestep_fs = 3.0
equilibration_ps = 0.3
every_ps = 0.06
strained = 6
vacancies = 6
"""
OF_ITS_KIND = """
name = "it"
structure = "crystal.xyz"
[expensive]
command = ["lammps", "expensive.in"]
[potential]
elements = ["Cu", "Au"]
twojmax = 2
cutoff = 4.0
radii = [0.5, 0.55]
weights = [1.0, 0.7]
quadratic = true
reference = "pairs.in"
[pair]
functions = 0
[soft]
temperatures = [300]
atoms = 32
snapshots = 14
timestep_fs = 4.0
equilibration_ps = 0.1
every_ps = 0.04
strained = 5
vacancies = 4
[partition]
regions = 4
groups = 3
"""
PAIRS = """labelmap atom 1 Cu 2 Au
pair_style lj/smooth/linear 6.0
pair_coeff 1 1 0.30 2.35
pair_coeff 1 2 0.36 2.40
pair_coeff 2 2 0.30 2.45
"""


@dataclass(frozen=True)
class Done:
    """A distillation that ended well."""

    folder: Path
    result: Result

    @property
    def best(self) -> Candidate:
        return self.result.candidates[0]


def distilled(folder: Path, recipe: str) -> Done:
    (folder / "distill.toml").write_text(recipe)
    ended = subprocess.run(
        [MIXSERVER, "distill", folder, "--quiet"],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return Done(folder / "distilled", read_result((folder / "distilled/report.json").read_bytes()))


@pytest.fixture(scope="module")
def alloy(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """B2 NiAl: an embedded atom model into SNAP, pair functions and a fixed core of ZBL."""
    folder = tmp_path_factory.mktemp("alloy")
    write(folder / "crystal.xyz", bulk("AlNi", "cesiumchloride", a=2.83))
    file = next(place / ALLOY for place in bundled_potentials() if (place / ALLOY).is_file())
    (folder / "expensive.in").write_text(
        "labelmap atom 1 Al 2 Ni\npair_style hybrid eam/alloy\n"  # a hybrid cannot be weighted
        f"pair_coeff * * eam/alloy {file} Al Ni\n"
    )
    (folder / "core.in").write_text(
        "labelmap atom 1 Ni 2 Al\npair_style zbl 2.2 3.2\n"
        "pair_coeff 1 1 28 28\npair_coeff 1 2 28 13\npair_coeff 2 2 13 13\n"
    )
    return distilled(folder, NICKEL_ALUMINIDE)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """An expensive model that is itself a quadratic SNAP of two elements over fixed pairs."""
    folder = tmp_path_factory.mktemp("twin")
    crystal = bulk("Cu", "fcc", a=3.70, cubic=True)
    crystal.symbols[0] = "Au"
    write(folder / "crystal.xyz", crystal)
    (folder / "pairs.in").write_text(PAIRS)
    descriptor = SnapDescriptor(
        twojmax=2,
        cutoff=4.0,
        elements=("Cu", "Au"),
        radii=(0.5, 0.55),
        weights=(1.0, 0.7),
        quadratic=True,
    )
    none = PairBasis(functions=0, inner=2.0, cutoff=5.0, elements=("Cu", "Au"))
    made = np.random.default_rng(5).normal(0.0, 1.0, (2, descriptor.columns))
    linear = slice(1, 1 + descriptor.bispectrum)
    made[:, linear] *= 1e-2
    made[:, linear.stop :] *= 2e-5
    write_potential(
        folder, "expensive", descriptor, none, made.ravel(), reference=folder / "pairs.in"
    )
    return distilled(folder, OF_ITS_KIND)


def errors_in_lammps(done: Done, commands: Path) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Errors of energies, forces and virials on the structures kept out of the fit."""
    engine = LammpsEngine(commands)
    files = {file.stem: file for file in sorted((done.folder / "soft").glob("*.npz"))}
    left: dict[str, list[NDArray[np.float64]]] = {}
    test = [name for name, use in split_structures(list(files), 0.15).items() if use == "test"]
    for seen, name in enumerate(test):
        labelled = load_labels(files[name])
        s = labelled.structure
        answer = engine.evaluate(
            Evaluate(
                job=1,
                stream=seen,
                positions=s.positions,
                numbers=s.numbers,
                cell=s.cell,
                pbc=(True, True, True),
            )
        )
        ours = np.concatenate([[answer.energy], answer.forces.ravel(), answer.virial[VOIGT]])
        off = ours - label_rows(labelled).sum(axis=0)
        off[0] /= len(s)
        off[-6:] /= len(s)
        left.setdefault(f"{s.kind} {s.temperature:g} K", []).append(off)
    engine.close()
    found = {}
    for of, offs in left.items():
        energy = np.array([off[0] for off in offs])
        forces = np.concatenate([off[1:-6] for off in offs])
        virial = np.concatenate([off[-6:] for off in offs])
        found[of] = np.array([np.sqrt(np.mean(part**2)) for part in (energy, forces, virial)])
    return found, len(test)


def check_errors(done: Done, *, to: float) -> None:
    """The report's errors are those of the file that was written."""
    made, seen = errors_in_lammps(done, done.folder / f"{done.result.name}.in")
    assert seen >= 3
    assert {errors.of for errors in done.best.errors} == set(made)
    for errors in done.best.errors:
        told = [errors.energy, errors.forces, errors.virial]
        np.testing.assert_allclose(made[errors.of], told, rtol=1e-4, atol=to)


@pytest.mark.physics
def test_an_alloy_has_the_crystal_of_the_embedded_atoms(alloy: Done) -> None:
    best, model = alloy.best, alloy.result.bulk
    assert alloy.result.elements == ("Ni", "Al")
    assert best.label == "constrained"
    assert best.bulk is not None
    assert best.bulk.cubic is not None
    assert model.cubic is not None
    assert best.bulk.lengths == pytest.approx(model.lengths, abs=1e-5)
    np.testing.assert_allclose(best.bulk.cubic, model.cubic, rtol=1e-3)
    free = next(one for one in alloy.result.candidates if one.label == "unconstrained")
    assert free.constraints == 0
    assert best.constraints >= 5


@pytest.mark.physics
def test_an_alloys_errors_in_lammps_are_those_of_the_report(alloy: Done) -> None:
    check_errors(alloy, to=2e-6)
    hot = alloy.best.forces("hot 300 K")
    assert hot is not None
    assert hot < 0.06


@pytest.mark.physics
def test_an_alloys_files_say_what_the_recipe_asked_for(alloy: Done) -> None:
    descriptor, _ = read_snap(alloy.folder / "nial.snapcoeff", alloy.folder / "nial.snapparam")
    assert descriptor == alloy.best.descriptor
    assert descriptor.elements == ("Ni", "Al")
    assert descriptor.radii == (0.5, 0.54)
    assert descriptor.weights == (1.0, 0.8)
    assert not descriptor.bzero
    commands = (alloy.folder / "nial.in").read_text()
    assert "zbl 2.2 3.2" in commands
    assert "labelmap atom 1 Ni 2 Al" in commands


@pytest.mark.physics
def test_a_model_without_site_weights_is_told_to_have_no_ghosts_known(alloy: Done) -> None:
    assert not alloy.result.ghost_free
    assert not alloy.best.ghosts
    assert any("cannot weight site energies" in note for note in alloy.result.notes)


@pytest.mark.physics
def test_a_potential_of_the_same_kind_comes_out_as_it_went_in(twin: Done) -> None:
    """Reference, elements, radii, weights, products and constraints: one mistake shows here."""
    best, model = twin.best, twin.result.bulk
    assert best.descriptor is not None
    assert best.descriptor.quadratic
    assert best.coefficients == 2 * (1 + 5 + 15)
    assert max(error for of in best.errors for error in (of.energy, of.forces, of.virial)) < EXACT
    assert best.bulk is not None
    assert best.bulk.cubic is not None
    assert model.cubic is not None
    assert best.bulk.volume == pytest.approx(model.volume, rel=EXACT)
    assert best.bulk.energy == pytest.approx(model.energy, abs=EXACT)
    np.testing.assert_allclose(best.bulk.cubic, model.cubic, rtol=1e-6)
    check_errors(twin, to=EXACT)
    alone, _ = errors_in_lammps(twin, twin.folder.parent / "pairs.in")
    assert alone["hot 300 K"][1] > 0.05  # the SNAP is no trifle beside the pairs


@pytest.mark.physics
def test_it_divides_the_energy_alike(twin: Done) -> None:
    assert twin.result.ghost_free
    ghosts = {ghost.blend: ghost.largest for ghost in twin.best.ghosts}
    assert set(ghosts) == {0.0, 4.0, 8.0}
    assert max(ghosts.values()) < EXACT
    assert twin.best.spread is not None
    assert twin.best.spread < EXACT
