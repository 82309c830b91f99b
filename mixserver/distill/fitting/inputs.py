"""Inputs of a fit: labels, descriptor rows and pair functions, and the design built from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mixserver.core.arrays import Block
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.data.labels import LabelledStructure, label_rows, subtract_potential
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.data.splits import Split, split_structures
from mixserver.distill.data.strain_set import constraints
from mixserver.distill.data.strained_partition import one_hot_names, strained_ghost_rows
from mixserver.distill.fitting.descriptor_rows import RowFiles
from mixserver.distill.fitting.design_matrix import (
    Design,
    GhostRows,
    ghost_rows,
    training_rows,
)
from mixserver.distill.fitting.null_space import Constraint
from mixserver.distill.fitting.pair_basis import PairBasis, pair_rows
from mixserver.distill.fitting.qr import QRAccumulator

_INNER: Final = 0.85
"""Pair functions begin at this fraction of the shortest sampled distance. In between `fit.smooth`
continues the curve, and the corner where it becomes straight is out of reach."""


@dataclass(frozen=True, eq=False)
class FitInputs:
    """The inputs of one fit."""

    project: DistillationProject
    data: ReferenceData
    rows: RowFiles
    """Of the descriptors."""
    reference: RowFiles | None
    """Of the fixed reference potential, if there is one."""
    pairs: PairBasis
    pair_rows: dict[str, Block]
    """Cache of the rows of `pairs`, which do not depend on the descriptors."""

    def labels(self, name: str) -> LabelledStructure:
        """The targets of the fit: labels minus the reference potential."""
        labelled = self.data.labels(name)
        if self.reference is None:
            return labelled
        return subtract_potential(labelled, self.reference(name)[:, :, 0])

    def all_rows(self, name: str) -> Block:
        """Rows (K, 1 + 3N + 6, p) of a structure: descriptors, then pair functions."""
        rows = self.rows(name)
        if not self.pairs.functions:
            return rows
        if name not in self.pair_rows:
            self.pair_rows[name] = pair_rows(self.data.labels(name).structure, self.pairs)
        return np.concatenate([rows, self.pair_rows[name]], axis=2)

    def splits(self) -> dict[str, Split]:
        """The use of each training structure."""
        return split_structures(self.data.training, self.project.recipe.fit.validation)

    def without_pairs(self) -> FitInputs:
        """The same without pair functions."""
        return replace(self, pairs=pair_basis(self.project, self.data, functions=0), pair_rows={})


def pair_basis(
    project: DistillationProject, data: ReferenceData, functions: int | None = None
) -> PairBasis:
    """The pair functions of a recipe; they begin a little below the shortest sampled distance."""
    pair = project.recipe.pair
    return PairBasis(
        functions=pair.functions if functions is None else functions,
        inner=min(np.floor(100.0 * _INNER * data.nearest) / 100.0, 0.5 * pair.cutoff),
        cutoff=pair.cutoff,
        elements=project.elements,
    )


def build_design(inputs: FitInputs) -> Design:
    """Read all labels and rows once, and accumulate them."""
    data = inputs.data
    columns = inputs.all_rows(data.strain_set[0]).shape[2]
    labels = (inputs.labels(name) for name in data.training)
    return Design(
        columns,
        training_rows(labels, inputs.all_rows, columns, inputs.splits()),
        constraints=_constraints(inputs),
        ghosts=_ghost_rows(inputs) if data.partition else None,
        roughness=_roughness(inputs.pairs, columns),
    )


def _constraints(inputs: FitInputs) -> tuple[Constraint, ...]:
    hard, names = inputs.project.recipe.hard, inputs.data.strain_set
    if not (hard.lattice or hard.elastic):
        return ()
    return tuple(
        constraints(
            {name: inputs.all_rows(name).sum(axis=0) for name in names},
            {name: label_rows(inputs.labels(name)).sum(axis=0) for name in names},
            size=hard.strain,
            volume=inputs.data.crystal.volume,
            energy=hard.lattice,
            lattice=hard.lattice,
            elastic=hard.elastic,
        )
    )


def _ghost_rows(inputs: FitInputs) -> GhostRows:
    data, recipe = inputs.data, inputs.project.recipe
    strained: Iterator[tuple[Block, Block]] = iter(())
    if one_hot_names().keys() <= data.files.keys():
        strained = strained_ghost_rows(
            data.crystal,
            inputs.labels,
            inputs.all_rows,
            size=recipe.hard.strain,
            by=recipe.partition.strain,
            reach=data.reach,
            count=recipe.partition.regions,
            seed=recipe.soft.seed,
        )
    return ghost_rows(
        inputs.labels(data.partition),
        inputs.all_rows(data.partition),
        data.crystal,
        reach=data.reach,
        count=recipe.partition.regions,
        seed=recipe.soft.seed,
        strained=strained,
    )


def _roughness(pairs: PairBasis, columns: int) -> QRAccumulator | None:
    rows = pairs.roughness()
    if not len(rows):
        return None
    accumulated = QRAccumulator(columns)
    padding = np.zeros((len(rows), columns - pairs.columns))
    accumulated.add(np.concatenate([padding, rows], axis=1), np.zeros(len(rows)))
    return accumulated
