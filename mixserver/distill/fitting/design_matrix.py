"""The design of a fit: all rows, read once and kept as triangular factors by kind of row.

The factors suffice to choose weights and to compute the errors of any coefficients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixserver.core.arrays import Block, Scalars
from mixserver.core.frame import Frame
from mixserver.distill.data.energy_partition import (
    SphericalRegion,
    measure_ghost_forces,
    random_regions,
    region_rows,
    site_gradients_of,
)
from mixserver.distill.data.labels import LabelledStructure, label_rows
from mixserver.distill.data.splits import Split
from mixserver.distill.fitting.null_space import Constraint
from mixserver.distill.fitting.qr import QRAccumulator
from mixserver.distill.results import REPORTED_BLENDS, REPORTED_CORE, Ghost

Quantity = Literal["energy", "forces", "virial", "partition"]
Rows = Callable[[str], Block]
"""(K, 1 + 3N + 6, p) of a structure, by its name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rows."""

    split: Split
    quantity: Quantity
    of: str
    """The kind of structure, with its temperature: "hot 600 K"."""


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Rows of the training structures."""

    parts: Mapping[Kind, QRAccumulator]
    structures: Counter[tuple[Split, str]]
    """How many structures of a kind a split has."""


@dataclass(frozen=True, eq=False)
class ReportedRegion:
    """A region in the perfect crystal for which ghost forces are reported."""

    region: SphericalRegion
    rows: Block
    """(3m, p) eV/Å per coefficient."""
    target: Scalars
    """(3m,) eV/Å."""

    def measured(self, coefficients: Scalars, crystal: Frame, reach: float) -> Ghost:
        """Ghost forces with these coefficients."""
        difference = self.target - self.rows @ coefficients
        return measure_ghost_forces(difference, crystal, self.region, reach)


@dataclass(frozen=True, eq=False)
class GhostRows:
    """Ghost forces of regions in the perfect crystal and in strained ones."""

    fitted: QRAccumulator
    reported: tuple[ReportedRegion, ...]

    def rms(self, coefficients: Scalars) -> float:
        """The ghost force (eV/Å) of the fitted regions."""
        return float(np.sqrt(self.fitted.residual(coefficients) / self.fitted.rows))


@dataclass(frozen=True, eq=False)
class Design:
    """Everything that is linear in the coefficients of one potential."""

    columns: int
    """p, the number of coefficients."""
    training: TrainingRows
    constraints: tuple[Constraint, ...] = ()
    ghosts: GhostRows | None = None
    """None if the expensive model cannot weight sites."""
    roughness: QRAccumulator | None = None
    """Second differences of pair functions."""

    def error(self, coefficients: Scalars, quantity: Quantity, split: Split, of: str = "") -> float:
        """Root mean square error over some rows; NaN if there are none.

        Energies are per atom in eV, forces in eV/Å, virials per atom in eV.
        """
        total, rows = 0.0, 0
        for kind, part in self.training.parts.items():
            if kind.quantity == quantity and kind.split == split and of in ("", kind.of):
                total += part.residual(coefficients)
                rows += part.rows
        return float(np.sqrt(total / rows)) if rows else float("nan")

    def kinds(self, split: Split) -> list[str]:
        """The kinds of structure in a split."""
        return sorted({kind.of for kind in self.training.parts if kind.split == split})


def training_rows(
    labels: Iterable[LabelledStructure], rows: Rows, columns: int, splits: Mapping[str, Split]
) -> TrainingRows:
    """Accumulate the rows (pair functions included, p columns) of the training structures."""
    parts: dict[Kind, QRAccumulator] = {}
    structures: Counter[tuple[Split, str]] = Counter()
    for labelled in labels:
        structure = labelled.structure
        n, of, split = len(structure), structure.family, splits[structure.name]
        structures[split, of] += 1
        matrix, target = rows(structure.name), label_rows(labelled)
        total, aim = matrix.sum(axis=0), target.sum(axis=0)
        blocks: list[tuple[Quantity, Block, Scalars]] = [
            ("energy", total[:1] / n, aim[:1] / n),
            ("forces", total[1:-6], aim[1:-6]),
            ("virial", total[-6:] / n, aim[-6:] / n),
        ]
        if structure.groups > 1:
            p = matrix.shape[2]
            blocks.append(("partition", matrix[:, 1:-6].reshape(-1, p), target[:, 1:-6].ravel()))
        for quantity, block, values in blocks:
            part = parts.setdefault(Kind(split, quantity, of), QRAccumulator(columns))
            part.add(block, values, source=structure.name)
    return TrainingRows(parts, structures)


def ghost_rows(
    labelled: LabelledStructure,
    rows: Block,
    crystal: Frame,
    *,
    reach: float,
    count: int,
    seed: int,
    strained: Iterable[tuple[Block, Scalars]] = (),
) -> GhostRows:
    """Rows of the ghost forces of `count` random regions in the perfect crystal.

    Takes the labels and the descriptor rows (K, 1 + 3N + 6, p) of `one_hot`, the receptive field of
    both models (Å), and further rows, of `strained_ghost_rows`.
    """
    expensive, cheap = site_gradients_of(labelled, rows, len(crystal))

    def evaluated(region: SphericalRegion) -> ReportedRegion:
        matrix = region_rows(cheap, crystal, region, reach)
        return ReportedRegion(region, matrix, region_rows(expensive, crystal, region, reach)[:, 0])

    fitted = QRAccumulator(rows.shape[2])
    for region in random_regions(crystal, count, np.random.default_rng([seed, 3])):
        one = evaluated(region)
        fitted.add(one.rows, one.target)
    for matrix, target in strained:
        fitted.add(matrix, target)
    x, y, z = crystal.positions[0].tolist()
    regions = (SphericalRegion((x, y, z), REPORTED_CORE, blend) for blend in REPORTED_BLENDS)
    return GhostRows(fitted, tuple(evaluated(region) for region in regions))
