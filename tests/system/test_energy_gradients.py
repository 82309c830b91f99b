"""Mixed energies of real models against finite differences: every force and the whole virial.

Fourth order differences over 2e-3 Å: their own error is below 1e-9 eV/Å for these models, and
rounding of an energy of some keV, 1e-12 eV, over the step is as small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from real_models import INPUTS, Pair, pair, read, shaken
from region_models import divide

from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.frame import Frame
from mixserver.mixing.energy import EnergyMixer
from mixserver.region import AtomSeeds, FixedRegion, ShellRegion, SmoothRegion, SpeciesSeeds
from mixserver.region.protocol import RegionModel

STEP = 2e-3
STRAIN = 2e-4
FORCE = 1e-6
"""eV/Å, what is demanded; some 1e-8 is found."""
STRESS = 1e-6
"""Relative to the scale of the stress."""

SILICON = (INPUTS / "silicon_nve/si.in", INPUTS / "silicon_vacancy/model/si_mace.model")
W_HE = (INPUTS / "w_he/w_he.in", INPUTS / "w_he/model/w_he_mace.model")


def _selector(
    frame: Frame, seeds: AtomSeeds, core: float, blend: float, *, follow: bool
) -> RegionModel:
    if follow:
        return SmoothRegion(seeds, core_radius=core, blend_width=blend)
    return FixedRegion.at(ShellRegion(seeds, core_radius=core, blend_width=blend), frame)


class Surface:
    """One mixed potential energy, asked at any frame."""

    def __init__(self, models: Pair, frame: Frame, region_model: RegionModel) -> None:
        self.frame = frame
        self._models, self._region_model = models, region_model
        self._mixer: EnergyMixer = models.mixer(frame)

    def energy(self, positions: Vectors, cell: Vectors) -> float:
        """eV."""
        frame = self.frame.topology.frame(positions, cell)
        return self._models.mixed(self._mixer, frame, divide(self._region_model, frame)).energy

    def answer(self) -> tuple[Vectors, Vectors]:
        """Forces and virial at the frame."""
        mixed = self._models.mixed(self._mixer, self.frame, divide(self._region_model, self.frame))
        return mixed.forces, mixed.virial

    def force_errors(self, atoms: list[int]) -> Scalars:
        """eV/Å, of every component of these atoms' forces."""
        forces, _ = self.answer()
        found = []
        for atom in atoms:
            for axis in range(3):

                def moved(by: float, atom: int = atom, axis: int = axis) -> float:
                    positions = self.frame.positions.copy()
                    positions[atom, axis] += by
                    return self.energy(positions, self.frame.cell)

                found.append(forces[atom, axis] + _slope(moved, STEP))
        return np.abs(found)

    def stress_errors(self, strains: list[tuple[int, int]]) -> Scalars:
        """eV/Å³, of these components of the stress."""
        _, virial = self.answer()
        found = []
        for a, b in strains:

            def strained(by: float, a: int = a, b: int = b) -> float:
                deform = np.eye(3)
                deform[a, b] += 0.5 * by
                deform[b, a] += 0.5 * by
                return self.energy(self.frame.positions @ deform, self.frame.cell @ deform)

            found.append((virial[a, b] + _slope(strained, STRAIN)) / self.frame.volume)
        return np.abs(found)

    @property
    def stress_scale(self) -> float:
        """eV/Å³."""
        return float(np.abs(self.answer()[1]).max() / self.frame.volume)


def _slope(energy: Callable[[float], float], step: float) -> float:
    near = energy(step) - energy(-step)
    far = energy(2 * step) - energy(-2 * step)
    return (8.0 * near - far) / (12.0 * step)


@pytest.fixture(scope="module")
def silicon() -> Iterator[Pair]:
    with pair(*SILICON, "float64") as models:
        yield models


@pytest.mark.parametrize("follow", [False, True])
def test_mixed_silicon_has_the_gradient_of_its_energy(silicon: Pair, follow: bool) -> None:
    start = read(INPUTS / "silicon_nve/init.xyz")
    frame = shaken(start, 0.08)
    region_model = _selector(start, AtomSeeds([0]), 2.5, 3.0, follow=follow)
    surface = Surface(silicon, frame, region_model)
    share = divide(region_model, frame).lambda_
    blend = np.flatnonzero((share > 0.1) & (share < 0.9))
    assert surface.force_errors([0, int(blend[0])]).max() < FORCE
    assert surface.stress_errors([(0, 0), (1, 2)]).max() < STRESS * surface.stress_scale


ALL_STRAINS = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


@pytest.mark.physics
@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    ("files", "structure", "seeds", "core", "blend"),
    [
        (SILICON, "silicon_nve/init.xyz", AtomSeeds([0]), 2.5, 3.0),
        (W_HE, "w_he/init.xyz", None, 4.0, 4.0),
    ],
    ids=["silicon", "w_he"],
)
def test_thirty_atoms_and_all_strains(
    files: tuple[Path, Path],
    structure: str,
    seeds: AtomSeeds | None,
    core: float,
    blend: float,
    follow: bool,
    record_property: Callable[[str, object], None],
) -> None:
    start = read(INPUTS / structure)
    around = seeds or SpeciesSeeds(start.topology.numbers, [2])
    frame = shaken(start, 0.05)
    with pair(*files, "float64") as models:
        surface = Surface(models, frame, _selector(start, around, core, blend, follow=follow))
        atoms = np.random.default_rng(30).choice(len(frame), 30, replace=False).tolist()
        force = float(surface.force_errors(atoms).max())
        stress = float(surface.stress_errors(ALL_STRAINS).max() / surface.stress_scale)
    record_property("largest force error (eV/Å)", force)
    record_property("largest stress error, relative", stress)
    assert force < FORCE
    assert stress < STRESS
