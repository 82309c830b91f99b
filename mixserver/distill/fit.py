"""From a design to coefficients: weights of the kinds of rows, what is chosen and by what.

A weight says how much the mean square error of a kind counts beside that of the forces, however
many rows it has. The weight of ghost forces is chosen on the front of ghost force against force
error; the ridge by structures that were not fitted. Knows neither models nor files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mixserver.arrays import Scalars
from mixserver.distill.dealing import Split
from mixserver.distill.design import Design
from mixserver.distill.equations import Equations
from mixserver.distill.pareto import Point, affordable
from mixserver.distill.recipe import Fit, Hard, Partition
from mixserver.distill.results import FrontPoint
from mixserver.distill.solve import Solution, solve, solve_validated
from mixserver.errors import ConfigError

WEIGHTS: Final = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of ghost forces, tried for "auto"."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a fit is to heed, beside the weights of its recipe."""

    hard: bool = True
    """Constraints."""
    ghost: float = 0.0
    """Weight of ghost forces."""
    hot: float = 0.0
    """Weight of the forces of groups in hot structures."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """One set of coefficients."""

    solution: Solution
    ghost: float
    """Weight of ghost forces it was made with."""
    front: tuple[FrontPoint, ...] = ()
    """What it was chosen from."""

    @property
    def coefficients(self) -> Scalars:
        """(p,)."""
        return self.solution.coefficients


def equations(design: Design, split: Split, fit: Fit, wishes: Wishes) -> Equations:
    """All rows of a part of the structures in one system.

    Raises:
        ConfigError: there is no structure to take forces from.
    """
    weights = {
        "energy": fit.energy,
        "forces": fit.force,
        "virial": fit.virial,
        "partition": wishes.hot,
    }
    rows = dict.fromkeys(weights, 0)
    for kind, part in design.parts.items():
        if kind.split == split:
            rows[kind.quantity] += part.rows
    if not rows["forces"]:
        raise ConfigError(
            f"no structure is left for {split}; take more snapshots (soft.snapshots), or change "
            "fit.validation"
        )
    made = Equations(design.columns)
    for kind, part in design.parts.items():
        weight = weights[kind.quantity]
        if kind.split == split and weight:
            made.merge(part, weight * np.sqrt(rows["forces"] / rows[kind.quantity]))
    if design.ghosts is not None and wishes.ghost:
        made.merge(design.ghosts, wishes.ghost * np.sqrt(rows["forces"] / design.ghosts.rows))
    if split == "train" and design.roughness is not None:
        made.merge(design.roughness, fit.smooth * np.sqrt(rows["forces"] / design.roughness.rows))
    return made


def fitted(design: Design, fit: Fit, hard: Hard, wishes: Wishes) -> Solution:
    """Solve with these wishes.

    Raises:
        ConfigError: constraints contradict each other or leave nothing free, or structures do not
            determine the coefficients.
    """
    train = equations(design, "train", fit, wishes)
    constraints = design.constraints if wishes.hard else []
    alpha = hard.alpha if hard.form == "tolerance" else None
    if fit.ridge == "auto":
        validation = equations(design, "validation", fit, wishes)
        return solve_validated(train, validation, constraints, alpha=alpha)
    return solve(train, constraints, ridge=fit.ridge, alpha=alpha)


def chosen(design: Design, fit: Fit, hard: Hard, partition: Partition) -> Fitted:
    """The fit a recipe asks for, with the weight of ghost forces it gives or leaves to choose.

    Raises:
        ConfigError: as `fitted`.
    """
    hot = partition.hot if partition.groups > 1 else 0.0
    if design.ghosts is None:
        return Fitted(fitted(design, fit, hard, Wishes(hot=hot)), 0.0)
    if partition.weight != "auto":
        wishes = Wishes(ghost=partition.weight, hot=hot)
        return Fitted(fitted(design, fit, hard, wishes), partition.weight)
    tried = [fitted(design, fit, hard, Wishes(ghost=w, hot=hot if w else 0.0)) for w in WEIGHTS]
    points = [
        FrontPoint(
            weight=weight,
            forces=design.error(solution.coefficients, "forces", "validation"),
            ghost=ghost_error(design, solution.coefficients),
        )
        for weight, solution in zip(WEIGHTS, tried, strict=True)
    ]
    found = [Point(p.weight, {"forces": p.forces, "ghost": p.ghost}) for p in points]
    best = affordable(found, least="ghost", of="forces", price=partition.price)
    front = tuple(
        FrontPoint(weight=p.weight, forces=p.forces, ghost=p.ghost, chosen=at == best)
        for at, p in enumerate(points)
    )
    return Fitted(tried[best], WEIGHTS[best], front)


def ghost_error(design: Design, coefficients: Scalars) -> float:
    """eV/Å, rms ghost force of the fitted regions; NaN where there are none."""
    if design.ghosts is None:
        return float("nan")
    return float(np.sqrt(design.ghosts.residual(coefficients) / design.ghosts.rows))
