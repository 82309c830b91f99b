"""Selection of a fit: weights of the kinds of rows, and the choice of ghost weight and ridge.

A weight is that of the mean square error of a kind relative to the forces, independent of its
number of rows. The weight of ghost forces is chosen on the front of ghost force
against force error, the ridge by structures that were not fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.distill.config.schema import Recipe
from mixserver.distill.data.splits import Split
from mixserver.distill.fitting.design_matrix import Design
from mixserver.distill.fitting.qr import QRAccumulator
from mixserver.distill.fitting.solve import Solution, solve, solve_validated
from mixserver.distill.results import FrontPoint

WEIGHTS: Final = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Weights of ghost forces that "auto" tries."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Options of one fit, besides the weights of its recipe."""

    constrained: bool = True
    ghost: float = 0.0
    """Weight of ghost forces."""
    groups: float = 0.0
    """Weight of the forces of groups in hot structures."""


@dataclass(frozen=True, eq=False)
class SelectedFit:
    """Coefficients with the weight of ghost forces that was selected."""

    solution: Solution
    ghost: float = 0.0
    front: tuple[FrontPoint, ...] = ()
    """The weights it was selected from."""

    @property
    def coefficients(self) -> Scalars:
        """The coefficients (p,)."""
        return self.solution.coefficients


def weighted_rows(
    design: Design, split: Split, recipe: Recipe, options: FitOptions
) -> QRAccumulator:
    """All rows of a split in one system.

    Raises:
        ConfigError: the split has no structure.
    """
    fit = recipe.fit
    weights = {
        "energy": fit.energy,
        "forces": fit.force,
        "virial": fit.virial,
        "partition": options.groups,
    }
    parts = {kind: part for kind, part in design.training.parts.items() if kind.split == split}
    rows = dict.fromkeys(weights, 0)
    for kind, part in parts.items():
        rows[kind.quantity] += part.rows
    if not rows["forces"]:
        raise ConfigError(
            f"no structure is left for {split}; take more snapshots (soft.snapshots), or change "
            "fit.validation"
        )
    system = QRAccumulator(design.columns)
    for kind, part in parts.items():
        weight = weights[kind.quantity]
        if weight:
            system.merge(part, weight * np.sqrt(rows["forces"] / rows[kind.quantity]))
    if design.ghosts is not None and options.ghost:
        ghosts = design.ghosts.fitted
        system.merge(ghosts, options.ghost * np.sqrt(rows["forces"] / ghosts.rows))
    if split == "train" and design.roughness is not None:
        smooth = fit.smooth * np.sqrt(rows["forces"] / design.roughness.rows)
        system.merge(design.roughness, smooth)
    return system


def fit_coefficients(design: Design, recipe: Recipe, options: FitOptions) -> Solution:
    """Solve with these options.

    Raises:
        ConfigError: constraints contradict each other or leave nothing free, or the structures do
            not determine the coefficients.
    """
    train = weighted_rows(design, "train", recipe, options)
    constraints = design.constraints if options.constrained else ()
    alpha = recipe.hard.alpha if recipe.hard.form == "tolerance" else None
    if recipe.fit.ridge == "auto":
        validation = weighted_rows(design, "validation", recipe, options)
        return solve_validated(train, validation, constraints, alpha=alpha)
    return solve(train, constraints, ridge=recipe.fit.ridge, alpha=alpha)


def select_fit(design: Design, recipe: Recipe) -> SelectedFit:
    """The fit of a recipe, with the weight of ghost forces that it states or leaves open.

    Raises:
        ConfigError: as `fit_coefficients`.
    """
    partition = recipe.partition
    groups = partition.hot if partition.groups > 1 else 0.0
    if design.ghosts is None:
        return SelectedFit(fit_coefficients(design, recipe, FitOptions(groups=groups)))
    if partition.weight != "auto":
        options = FitOptions(ghost=partition.weight, groups=groups)
        return SelectedFit(fit_coefficients(design, recipe, options), partition.weight)
    tried = [
        fit_coefficients(design, recipe, FitOptions(ghost=w, groups=groups if w else 0.0))
        for w in WEIGHTS
    ]
    front = [
        FrontPoint(
            weight=weight,
            forces=design.error(solution.coefficients, "forces", "validation"),
            ghost=design.ghosts.rms(solution.coefficients),
        )
        for weight, solution in zip(WEIGHTS, tried, strict=True)
    ]
    best = best_affordable(front, partition.price)
    front[best] = msgspec.structs.replace(front[best], chosen=True)
    return SelectedFit(tried[best], WEIGHTS[best], tuple(front))


def best_affordable(front: Sequence[FrontPoint], price: float) -> int:
    """The index of the point with the least ghost force among those with an affordable force error.

    Force errors up to (1 + price) times the least are affordable. Among equal points, the one with
    the smaller force error, then weight.

    Raises:
        ConfigError: no point has finite errors.
        ValueError: the price is negative.
    """
    if not price >= 0.0:
        raise ValueError(f"a price must be 0 or more, got {price}")
    finite = [at for at, p in enumerate(front) if np.isfinite(p.forces + p.ghost)]
    if not finite:
        raise ConfigError(
            f"none of {len(front)} weights gave finite ghost and force errors, so none can "
            "be chosen. Is the validation set empty (fit.validation)?"
        )
    limit = (1.0 + price) * min(front[at].forces for at in finite)
    return min(
        (at for at in finite if front[at].forces <= limit),
        key=lambda at: (front[at].ghost, front[at].forces, front[at].weight),
    )
