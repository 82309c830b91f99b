"""All rows of a fit, read once and kept as triangular factors, kind by kind.

What weight a kind gets is decided afterwards, without the rows. Errors of any coefficients are
known without them too, by the kind of structure. Knows neither models nor files: labels and
descriptor rows are given to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Scalars
from mixserver.distill.dealing import Split
from mixserver.distill.equations import Equations
from mixserver.distill.hard import constraints
from mixserver.distill.labelled import Labelled, rows_of
from mixserver.distill.pair import PairBasis, pair_rows
from mixserver.distill.partition import (
    Ball,
    Division,
    Ghosts,
    ball_rows,
    balls,
    division,
    ghosts,
    pulled,
)
from mixserver.distill.solve import Constraint
from mixserver.frame import Frame

Block = NDArray[np.float64]
Quantity = Literal["energy", "forces", "virial", "partition"]

BLENDS: Final = (0.0, 4.0, 8.0)
"""Å, blends whose ghost forces are told, around a core of `CORE`."""
CORE: Final = 6.0
WIDTHS: Final = (3.0, 8.0)
"""Å, blends of the regions that are fitted."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What some rows are of."""

    split: Split
    quantity: Quantity
    of: str
    """The kind of structure, with its temperature: "hot 600 K"."""


@dataclass(frozen=True, eq=False)
class Region:
    """A region in the perfect crystal, and what both models make of it."""

    ball: Ball
    rows: Block
    """(3m, p) eV/Å per coefficient."""
    target: Scalars
    """(3m,) eV/Å."""

    def measured(self, coefficients: Scalars, crystal: Frame, reach: float) -> Ghosts:
        """Ghost forces with these coefficients."""
        return ghosts(self.target - self.rows @ coefficients, crystal, self.ball, reach)


@dataclass(eq=False)
class Design:
    """Everything that is linear in the coefficients of one potential."""

    columns: int
    """p, how many coefficients."""
    parts: dict[Kind, Equations] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)
    ghosts: Equations | None = None
    """Forces of weighted perfect crystals; None if the model cannot weight sites."""
    regions: list[Region] = field(default_factory=list)
    """By which ghost forces are told."""
    structures: Counter[tuple[Split, str]] = field(default_factory=Counter)
    """How many there are of a kind in a part."""
    roughness: Equations | None = None
    """Second differences of pair functions."""

    def error(self, coefficients: Scalars, quantity: Quantity, split: Split, of: str = "") -> float:
        """Root of the mean square error of some rows; NaN if there are none.

        Energies are per atom in eV, forces in eV/Å, virials per atom in eV.
        """
        total, rows = 0.0, 0
        for kind, part in self.parts.items():
            if kind.quantity == quantity and kind.split == split and of in ("", kind.of):
                total += part.residual(coefficients)
                rows += part.rows
        return float(np.sqrt(total / rows)) if rows else float("nan")

    def kinds(self, split: Split) -> list[str]:
        """Which kinds of structure there are."""
        return sorted({kind.of for kind in self.parts if kind.split == split})


Rows = Callable[[str], Block]
"""(K, 1 + 3N + 6, p) of a structure, by its name."""


def soft(
    labels: Iterable[Labelled], rows: Rows, columns: int, split: Mapping[str, Split]
) -> Design:
    """Accumulate the soft set.

    Args:
        labels: structure after structure.
        rows: descriptor rows, pair functions included.
        columns: p.
        split: what each structure is for.
    """
    design = Design(columns)
    for labelled in labels:
        structure = labelled.structure
        n = len(structure)
        of = structure.kind
        if structure.temperature is not None:
            of += f" {structure.temperature:g} K"
        matrix, target = rows(structure.name), rows_of(labelled)
        whole, aim = matrix.sum(axis=0), target.sum(axis=0)
        use = split[structure.name]
        design.structures[use, of] += 1
        blocks: list[tuple[Quantity, Block, Scalars]] = [
            ("energy", whole[:1] / n, aim[:1] / n),
            ("forces", whole[1:-6], aim[1:-6]),
            ("virial", whole[-6:] / n, aim[-6:] / n),
        ]
        if structure.groups > 1:
            p = matrix.shape[2]
            blocks.append(("partition", matrix[:, 1:-6].reshape(-1, p), target[:, 1:-6].ravel()))
        for quantity, block, values in blocks:
            kind = Kind(use, quantity, of)
            part = design.parts.setdefault(kind, Equations(columns))
            part.add(block, values, source=structure.name)
    return design


def with_hard(
    design: Design,
    labels: Mapping[str, Labelled],
    rows: Rows,
    *,
    size: float,
    volume: float,
    lattice: bool = True,
    elastic: bool = True,
) -> None:
    """Add the constraints that the hard set makes.

    Args:
        design: is completed.
        labels: by name.
        rows: as of `soft`.
        size: strain of one step.
        volume: Å³ of the perfect cell.
        lattice: pin energy and stress of the perfect crystal.
        elastic: pin the elastic constants.
    """
    design.constraints = constraints(
        {name: rows(name).sum(axis=0) for name in labels},
        {name: rows_of(labelled).sum(axis=0) for name, labelled in labels.items()},
        size=size,
        volume=volume,
        energy=lattice,
        lattice=lattice,
        elastic=elastic,
    )


def with_partition(
    design: Design,
    labelled: Labelled,
    matrix: Block,
    crystal: Frame,
    *,
    reach: float,
    count: int,
    seed: int,
) -> None:
    """Add what regions in the perfect crystal would feel.

    Args:
        design: is completed.
        labelled: the structure of `partition.one_hot`, with the expensive model's answers.
        matrix: (K, 1 + 3N + 6, p) its descriptor rows.
        crystal: one cell of the perfect crystal.
        reach: Å, how far the site energies of either look.
        count: how many regions are fitted.
        seed: decides which.
    """
    basis, n = len(crystal), len(labelled.structure)
    theirs = labelled.forces[:basis][..., None]
    ours = matrix[:basis, 1:-6].reshape(basis, n, 3, -1)
    keep = pulled(theirs, ours)
    target = division(labelled.structure, basis, theirs, keep)
    columns = division(labelled.structure, basis, ours, keep)
    rng = np.random.default_rng([seed, 3])
    design.ghosts = Equations(design.columns)
    for ball in balls(crystal, count, rng, widths=WIDTHS):
        region = _region(ball, target, columns, crystal, reach)
        design.ghosts.add(region.rows, region.target)
    x, y, z = (float(v) for v in crystal.positions[0])
    design.regions = [
        _region(Ball((x, y, z), CORE, blend), target, columns, crystal, reach) for blend in BLENDS
    ]


def _region(
    ball: Ball, target: Division, columns: Division, crystal: Frame, reach: float
) -> Region:
    return Region(
        ball,
        ball_rows(columns, crystal, ball, reach),
        ball_rows(target, crystal, ball, reach)[:, 0],
    )


def with_pairs(
    basis: PairBasis,
    labels: Mapping[str, Labelled],
    rows: Rows,
    known: dict[str, Block] | None = None,
) -> Rows:
    """Descriptor rows with the columns of pair functions after them.

    Args:
        basis: pair functions, perhaps none.
        labels: structures by name.
        rows: descriptor rows.
        known: pair rows by name; those of other structures are added.
    """
    kept = {} if known is None else known

    def both(name: str) -> Block:
        block = rows(name)
        if not basis.functions:
            return block
        if name not in kept:
            kept[name] = pair_rows(labels[name].structure, basis)
        return np.concatenate([block, kept[name]], axis=2)

    return both
