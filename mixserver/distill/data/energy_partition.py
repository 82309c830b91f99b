r"""Energy partition: gradients of site energies in a perfect crystal, and their ghost forces.

In energy mixing the force on atom i is :math:`-\sum_j \lambda_j \partial e_j / \partial r_i` plus
the same of the cheap model with :math:`1 - \lambda_j`. Where both models are at rest the sum of the
two is the *ghost force*, :math:`\sum_j \lambda_j \partial (c_j - e_j) / \partial r_i`. In a perfect
crystal :math:`\partial e_j / \partial r_i` depends only on the lattice vector between j and i, so
one weighted evaluation per basis atom gives it for every region; and for a cheap model that is
linear in its coefficients the ghost forces are linear too: rows of least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.analysis.bulk.supercell import repeated
from mixserver.core.arrays import Block, Indices, Mask, Scalars, Vectors
from mixserver.core.cell import plane_spacings
from mixserver.core.frame import Frame
from mixserver.distill.data.labels import LabelledStructure, Structure
from mixserver.distill.results import Ghost
from mixserver.region.profiles import PROFILES

Lambda = Callable[[Vectors], Scalars]
"""The expensive fraction at positions (n, 3) Å."""

_ZERO: Final = 1e-9
"""eV/Å, below which the gradient of a site energy counts as zero."""
WIDTHS: Final = (3.0, 8.0)
"""Å, the least and the greatest blend width of the regions that are fitted."""


@dataclass(frozen=True, slots=True)
class SphericalRegion:
    """A spherical region in the crystal: lambda falls from 1 to 0 across the blend (quintic)."""

    centre: tuple[float, float, float]
    """Å."""
    core: float
    """Å, radius within which lambda is 1."""
    blend: float
    """Å; 0 for a step."""

    def __call__(self, at: Vectors) -> Scalars:
        """Lambda at positions."""
        r: Scalars = np.linalg.norm(at - np.asarray(self.centre), axis=1)
        if self.blend == 0.0:
            return (r < self.core).astype(np.float64)
        t: Scalars = np.clip((r - self.core) / self.blend, 0.0, 1.0)
        return PROFILES["quintic"].value(t)

    @property
    def radius(self) -> float:
        """The distance (Å) beyond which lambda is 0."""
        return self.core + self.blend


def one_hot(crystal: Frame, reach: float, name: str = "partition") -> Structure:
    """A supercell of the perfect crystal (B atoms a cell) for site energies of some reach (Å).

    Each atom of the first cell is a group, all others are one more: atom c * B + b is basis atom b
    of cell c.
    """
    # half of the supercell must contain the reach, or a site would interact with its image
    a, b, c = np.ceil(2.0 * reach / plane_spacings(crystal.cell) + 1e-6).astype(int).tolist()
    whole = repeated(crystal, (a, b, c))
    group = np.full(len(whole), len(crystal), dtype=np.int32)
    group[: len(crystal)] = np.arange(len(crystal))
    return Structure.of(whole, name, "partition", group)


@dataclass(frozen=True, slots=True, eq=False)
class SiteGradients:
    """The gradients of a perfect crystal's site energies, sorted by the atoms they act on.

    The last axis has one number for a model, or one for each coefficient of a linear model.
    """

    offsets: tuple[Vectors, ...]
    """For each basis atom i: (n, 3) Å, r_j - r_i of the sites j whose energy depends on it."""
    gradients: tuple[Block, ...]
    """For each basis atom: (n, 3, p) eV/Å, the force on it from each of those site energies."""

    def forces(self, basis: int, at: Vectors, fraction: Lambda) -> Block:
        """Forces (m, 3, p) eV/Å of sum_j lambda_j e_j on atoms of one `basis` at (m, 3) Å."""
        offsets, gradients = self.offsets[basis], self.gradients[basis]
        sites = (at[:, None, :] + offsets[None]).reshape(-1, 3)
        weight = fraction(sites).reshape(len(at), len(offsets))
        flat: Block = weight @ gradients.reshape(len(offsets), -1)
        return flat.reshape(len(at), 3, -1)


def site_gradients_of(
    labelled: LabelledStructure, rows: Block, basis: int
) -> tuple[SiteGradients, SiteGradients]:
    """The expensive model's gradients and those of the descriptors, for the same pairs of atoms.

    Takes the labels of a `one_hot` structure, its descriptor rows (K, 1 + 3N + 6, p), and the
    number of atoms in a cell.
    """
    structure = labelled.structure
    expensive = labelled.forces[:basis][..., None]
    cheap = rows[:basis, 1:-6].reshape(basis, len(structure), 3, -1)
    keep = significant_pairs(expensive, cheap)
    return (
        site_gradients(structure, basis, expensive, keep),
        site_gradients(structure, basis, cheap, keep),
    )


def site_gradients(structure: Structure, basis: int, forces: Block, keep: Mask) -> SiteGradients:
    """Sort the results for a `one_hot` structure by the atoms on which forces act.

    Takes forces (B or more, N, 3, p) eV/Å, of each basis atom's site energy on all atoms; `keep`
    (B, N) is true where they may be other than zero.
    """
    inverse = np.linalg.inv(structure.cell)
    offsets: list[Vectors] = []
    gradients: list[Block] = []
    for atom in range(basis):
        images = np.arange(atom, len(structure), basis)
        vectors: list[Vectors] = []
        parts: list[Block] = []
        for site in range(basis):
            some = images[keep[site, images]]
            fractional = (structure.positions[site] - structure.positions[some]) @ inverse
            vectors.append((fractional - np.round(fractional)) @ structure.cell)
            parts.append(forces[site, some])
        offsets.append(np.concatenate(vectors))
        gradients.append(np.concatenate(parts))
    return SiteGradients(tuple(offsets), tuple(gradients))


def significant_pairs(*forces: Block) -> Mask:
    """Mask (B, N) of where the site energies of any of some models have a gradient."""
    largest = [np.abs(f).reshape(*f.shape[:2], -1).max(axis=2) for f in forces]
    some: Mask = np.max(largest, axis=0) > _ZERO
    return some


def atoms_around(crystal: Frame, centre: Vectors, radius: float) -> Iterator[tuple[int, Vectors]]:
    """For each basis atom, the positions of such atoms within a radius of a point."""
    spread = np.abs(crystal.fractional).max()
    most = np.ceil(radius / plane_spacings(crystal.cell) + spread + 1.0).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), -1)
    lattice = shifts.reshape(-1, 3) @ crystal.cell
    origin = np.floor(np.asarray(centre) @ crystal.inverse) @ crystal.cell
    for basis in range(len(crystal)):
        at = lattice + crystal.positions[basis] + origin
        yield basis, at[np.linalg.norm(at - centre, axis=1) < radius]


def region_rows(
    gradients: SiteGradients, crystal: Frame, region: SphericalRegion, reach: float
) -> Block:
    """Forces (3m, p) eV/Å of sum_j lambda_j e_j on all atoms within reach (Å) of a region.

    The atoms and their order are the same for every model and for its descriptors.
    """
    centre = np.asarray(region.centre)
    found = [
        gradients.forces(basis, at, region)
        for basis, at in atoms_around(crystal, centre, region.radius + reach)
        if len(at)
    ]
    p = gradients.gradients[0].shape[2]
    return np.concatenate([block.reshape(-1, p) for block in found])


def random_regions(
    crystal: Frame, count: int, rng: np.random.Generator, *, widths: tuple[float, float] = WIDTHS
) -> list[SphericalRegion]:
    """Random regions like those of runs, around atoms and between them; blend widths in Å."""
    regions: list[SphericalRegion] = []
    for number in range(count):
        atom = None if number % 2 else rng.integers(len(crystal))
        centre = rng.random(3) @ crystal.cell if atom is None else crystal.positions[atom]
        x, y, z = centre.tolist()
        core, blend = float(rng.uniform(3.0, 7.0)), float(rng.uniform(*widths))
        regions.append(SphericalRegion((x, y, z), core, blend))
    return regions


def measure_ghost_forces(
    difference: Block, crystal: Frame, region: SphericalRegion, reach: float
) -> Ghost:
    """Measure the forces (3m, 1) or (3m,) eV/Å of `region_rows`, expensive minus cheap."""
    force = difference.reshape(-1, 3)
    centre = np.asarray(region.centre)
    positions = [at for _, at in atoms_around(crystal, centre, region.radius + reach) if len(at)]
    r = np.linalg.norm(np.concatenate(positions) - centre, axis=1)
    size = np.linalg.norm(force, axis=1)
    blend: Indices = np.flatnonzero((r > region.core) & (r < region.radius))
    if not len(blend):
        blend = np.flatnonzero(np.abs(r - region.core) < 2.0)
    if not len(blend):  # few atoms in a large cell
        blend = np.arange(len(r))
    return Ghost(
        core=region.core,
        blend=region.blend,
        largest=float(size.max()),
        rms=float(np.sqrt(np.mean(size[blend] ** 2))),
    )
