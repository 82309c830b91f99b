"""Evaluations of region models without workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mixserver.core.frame import Frame
from mixserver.region import Region, RegionModel

_numbers = itertools.count(1)


def divide(region_model: RegionModel, frame: Frame) -> Region:
    """The region of a frame, which counts as no evaluation."""
    return region_model.evaluation(frame).region()


def advance(
    region_model: RegionModel,
    frame: Frame,
    values: np.ndarray | None = None,
    update_energy: Callable[[Region], float] | None = None,
) -> Region:
    """One committed evaluation of a frame; the values of a criterion come when they are wanted."""
    with region_model.evaluation(frame) as evaluation:
        if evaluation.selects:
            evaluation.record_criterion(values)
        region = evaluation.region()
        if evaluation.criterion and not evaluation.selects:
            evaluation.record_criterion(values)
        evaluation.commit(0.0 if update_energy is None else update_energy(region))
    return region


def seen_anew(frame: Frame) -> Frame:
    """The same frame to within rounding, but not one that is evaluated again."""
    return replace(frame, cell=frame.cell * (1.0 + 1e-15 * next(_numbers)))
