r"""How a model divides the energy of a perfect crystal among its atoms, and the ghosts of that.

In energy mixing the force on atom i is :math:`-\sum_j \lambda_j \partial e_j / \partial r_i` plus
the same of the cheap model with :math:`1 - \lambda_j`. Where both models are at rest the sum of the
two is the *ghost force*, :math:`\sum_j \lambda_j \partial (c_j - e_j) / \partial r_i`. In a perfect
crystal :math:`\partial e_j / \partial r_i` depends on the lattice vector between j and i alone, so
one weighted evaluation per basis atom gives it for every region there can be; and for a cheap model
that is linear in its coefficients the ghost forces are linear too: rows of least squares.

Knows neither models nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Indices, Mask, Scalars, Vectors
from mixserver.distill.labelled import Structure
from mixserver.frame import Frame
from mixserver.region.profiles import PROFILES

Block = NDArray[np.float64]
Lambda = Callable[[Vectors], Scalars]
"""The expensive fraction at positions (n, 3) Å."""

_NOTHING: Final = 1e-9
"""eV/Å, below which a site's pull on another atom is none."""


@dataclass(frozen=True, slots=True)
class Ball:
    """A spherical region in the crystal: quintic from 1 to 0 across the blend."""

    centre: tuple[float, float, float]
    """Å."""
    core: float
    """Å, radius within which lambda is 1."""
    blend: float
    """Å; 0 for an abrupt end."""

    def __call__(self, at: Vectors) -> Scalars:
        """Lambda at positions."""
        r: Scalars = np.linalg.norm(at - np.asarray(self.centre), axis=1)
        if self.blend == 0.0:
            return (r < self.core).astype(np.float64)
        t: Scalars = np.clip((r - self.core) / self.blend, 0.0, 1.0)
        return PROFILES["quintic"].value(t)

    @property
    def radius(self) -> float:
        """Å, beyond which lambda is 0."""
        return self.core + self.blend


def one_hot(crystal: Frame, reach: float) -> Structure:
    """A supercell in which each atom of one cell is a group of its own, and all others one more.

    Args:
        crystal: a cell of the perfect crystal with B atoms.
        reach: Å, how far a site energy of either model looks.

    Returns:
        The structure, with groups 0 .. B-1 for the atoms of the first cell, which are its first
        atoms; atom number c * B + b is basis atom b of cell c.
    """
    heights = crystal.volume / np.linalg.norm(
        np.cross(np.roll(crystal.cell, -1, axis=0), np.roll(crystal.cell, -2, axis=0)), axis=1
    )
    # half of the supercell must hold the reach, or a site would see itself
    repeat = np.ceil(2.0 * reach / heights + 1e-6).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in repeat), indexing="ij"), -1)
    shifts = shifts.reshape(-1, 3)
    basis = len(crystal)
    positions = (crystal.positions[None] + (shifts @ crystal.cell)[:, None]).reshape(-1, 3)
    group = np.full(len(positions), basis, dtype=np.int32)
    group[:basis] = np.arange(basis)
    return Structure(
        name="partition",
        kind="partition",
        numbers=np.tile(crystal.topology.numbers, len(shifts)),
        positions=np.ascontiguousarray(positions),
        cell=np.ascontiguousarray(crystal.cell * repeat[:, None]),
        group=group,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """The gradients of a perfect crystal's site energies, as seen from the atoms they act on.

    The last axis holds one number for a model, or one for each coefficient of a linear model.
    """

    offsets: tuple[Vectors, ...]
    """For each basis atom i: (n, 3) Å, where the sites j are that pull at it, r_j - r_i."""
    pulls: tuple[Block, ...]
    """For each basis atom: (n, 3, p) eV/Å, the force on it from each of those site energies."""

    def forces(self, basis: int, at: Vectors, fraction: Lambda) -> Block:
        """Forces of sum_j lambda_j e_j.

        Args:
            basis: which of the basis atoms.
            at: (m, 3) Å, where such atoms are.
            fraction: lambda.

        Returns:
            (m, 3, p) eV/Å.
        """
        offsets, pulls = self.offsets[basis], self.pulls[basis]
        sites = (at[:, None, :] + offsets[None]).reshape(-1, 3)
        weight = fraction(sites).reshape(len(at), len(offsets))
        flat: Block = weight @ pulls.reshape(len(offsets), -1)
        forces: Block = flat.reshape(len(at), 3, -1)
        return forces


def division(structure: Structure, basis: int, forces: Block, keep: Mask) -> Division:
    """Sort the answers of `one_hot` by the atoms that are pulled.

    Args:
        structure: as `one_hot` made it.
        basis: how many atoms a cell of the crystal has.
        forces: (B or more, N, 3, p) eV/Å, forces of each basis atom's site energy on all atoms.
        keep: (B, N) where a pull may be, from `pulled`.
    """
    inverse = np.linalg.inv(structure.cell)
    offsets: list[Vectors] = []
    pulls: list[Block] = []
    for atom in range(basis):
        mine = np.arange(atom, len(structure), basis)
        apart_parts: list[Vectors] = []
        pull_parts: list[Block] = []
        for site in range(basis):
            some = mine[keep[site, mine]]
            apart = structure.positions[site] - structure.positions[some]
            fractional = apart @ inverse
            apart_parts.append((fractional - np.round(fractional)) @ structure.cell)
            pull_parts.append(forces[site, some])
        offsets.append(np.concatenate(apart_parts))
        pulls.append(np.concatenate(pull_parts))
    return Division(tuple(offsets), tuple(pulls))


def pulled(*forces: Block) -> Mask:
    """(B, N): where any of some models' site energies pull, to pass to `division`."""
    some: Mask = np.zeros(forces[0].shape[:2], dtype=np.bool_)
    for f in forces:
        some |= np.abs(f).reshape(*f.shape[:2], -1).max(axis=2) > _NOTHING
    return some


def around(crystal: Frame, centre: Vectors, radius: float) -> Iterator[tuple[int, Vectors]]:
    """For each basis atom, where in the crystal such atoms are within a radius of a point."""
    heights = crystal.volume / np.linalg.norm(
        np.cross(np.roll(crystal.cell, -1, axis=0), np.roll(crystal.cell, -2, axis=0)), axis=1
    )
    spread = np.abs(crystal.fractional).max()
    most = np.ceil(radius / heights + spread + 1.0).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), -1)
    lattice = shifts.reshape(-1, 3) @ crystal.cell
    origin = np.floor(np.asarray(centre) @ crystal.inverse) @ crystal.cell
    for basis in range(len(crystal)):
        at = lattice + crystal.positions[basis] + origin
        yield basis, at[np.linalg.norm(at - centre, axis=1) < radius]


def ball_rows(division: Division, crystal: Frame, ball: Ball, reach: float) -> Block:
    """Forces of sum_j lambda_j e_j on all atoms that a spherical region can pull at.

    Args:
        division: of a model, or of a linear model's descriptors.
        crystal: the same crystal.
        ball: the region.
        reach: Å, how far beyond the ball atoms are pulled.

    Returns:
        (3m, p) eV/Å; the same atoms in the same order for every model.
    """
    centre = np.asarray(ball.centre)
    found = [
        division.forces(basis, at, ball)
        for basis, at in around(crystal, centre, ball.radius + reach)
        if len(at)
    ]
    p = division.pulls[0].shape[2]
    return np.concatenate([block.reshape(-1, p) for block in found])


def balls(
    crystal: Frame, count: int, rng: np.random.Generator, *, widths: tuple[float, float]
) -> list[Ball]:
    """Regions as runs have them: around atoms and between them, small and large.

    Args:
        crystal: where they are.
        count: how many.
        rng: decides.
        widths: Å, least and greatest width of the blend.
    """
    made: list[Ball] = []
    for number in range(count):
        if number % 2:
            centre = rng.random(3) @ crystal.cell
        else:
            centre = crystal.positions[rng.integers(len(crystal))]
        x, y, z = (float(v) for v in centre)
        made.append(Ball((x, y, z), float(rng.uniform(3.0, 7.0)), float(rng.uniform(*widths))))
    return made


@dataclass(frozen=True, slots=True)
class Ghosts:
    """Ghost forces of one region, eV/Å."""

    core: float
    blend: float
    largest: float
    rms: float
    """Over the atoms within the region's radius and outside its core."""


def ghosts(difference: Block, crystal: Frame, ball: Ball, reach: float) -> Ghosts:
    """Measure the forces of `ball_rows`, expensive minus cheap.

    Args:
        difference: (3m, 1) or (3m,) eV/Å.
        crystal: as given to `ball_rows`.
        ball: likewise.
        reach: likewise.
    """
    force = difference.reshape(-1, 3)
    centre = np.asarray(ball.centre)
    spots = [at for _, at in around(crystal, centre, ball.radius + reach) if len(at)]
    r = np.linalg.norm(np.concatenate(spots) - centre, axis=1)
    size = np.linalg.norm(force, axis=1)
    blend: Indices = np.flatnonzero((r > ball.core) & (r < ball.radius))
    if not len(blend):
        blend = np.flatnonzero(np.abs(r - ball.core) < 2.0)
    if not len(blend):  # few atoms in a large cell
        blend = np.arange(len(r))
    return Ghosts(
        ball.core, ball.blend, float(size.max()), float(np.sqrt(np.mean(size[blend] ** 2)))
    )
