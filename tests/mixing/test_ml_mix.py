"""Regions and evaluated atoms are ML-MIX's, for the settings of ML-MIX's own tests.

fcc, a = 3 Å, 10³ cells, rattled by 0.1 Å, core/blend/buffer = 5/3/3 Å; compared with its algorithm
written down as plainly as it is stated (F. Birks et al., npj Comput. Mater., 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cells import fcc
from region_models import advance

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.frame import Frame
from mixserver.mixing import ForceMixer, ModelCapabilities
from mixserver.region import AtomSeeds, CriterionSeeds, ShellRegion

SHARE = 1e-12
LENGTH = 30.0


def _distances(frame: Frame, atom: int) -> Scalars:
    """(N,) Å from one atom, in the cube."""
    apart = frame.positions - frame.positions[atom]
    distances: Scalars = np.linalg.norm(apart - LENGTH * np.rint(apart / LENGTH), axis=1)
    return distances


def _plainly(
    frame: Frame, seeds: Indices, profile: Callable[[Any], Any]
) -> tuple[Scalars, np.ndarray]:
    """Weights of the expensive potential, and which atoms it is evaluated on."""
    core = np.zeros(len(frame), dtype=bool)
    for seed in seeds:
        core |= _distances(frame, seed) < 5.0
    weight = np.zeros(len(frame))
    for atom in np.flatnonzero(core):
        distance = _distances(frame, atom)
        near = distance < 3.0
        weight[near] = np.maximum(weight[near], profile(distance[near] / 3.0))
    weight[core] = 1.0
    evaluated = weight > 0.0
    for atom in np.flatnonzero(weight > 0.0):
        evaluated |= _distances(frame, atom) < 3.0
    return weight, evaluated


def _coordination(frame: Frame) -> Scalars:
    return np.array([(_distances(frame, i) < 4.0).sum() - 1.0 for i in range(len(frame))])


@pytest.mark.parametrize("chosen_by", ["centre", "coordination"])
@pytest.mark.parametrize(
    ("name", "profile"),
    [("linear", lambda t: 1 - t), ("cubic", lambda t: 1 - (3 * t**2 - 2 * t**3))],
)
def test_weights_and_evaluated_atoms(
    name: str, profile: Callable[[Any], Any], chosen_by: str
) -> None:
    frame = fcc(10, 3.0)
    seeds: AtomSeeds | CriterionSeeds
    if chosen_by == "centre":
        from_centre = ((frame.positions - LENGTH / 2) ** 2).sum(axis=1)
        wanted = np.argsort(from_centre)[:2]
        seeds = AtomSeeds(wanted)
    else:
        values = _coordination(frame)
        wanted = np.flatnonzero(values > 45.5)
        seeds = CriterionSeeds("coord/atom cutoff 4.0", low=45.5)
        assert 0 < len(wanted) < 20
    region_model = ShellRegion(
        seeds, core_radius=5.0, blend_width=3.0, profile=name, measure_from="core"
    )
    region = advance(region_model, frame, values if chosen_by == "coordination" else None)
    mixer = ForceMixer(
        model=ModelCapabilities(None, weights=True), buffer_width=3.0, halo_width=0.0
    )
    sites = [c.atoms[c.sites > 0.0] for c in mixer.plan(frame, region).clusters]

    weight, evaluated = _plainly(frame, wanted, profile)
    np.testing.assert_allclose(region.lambda_, weight, atol=SHARE)
    np.testing.assert_array_equal(np.sort(np.concatenate(sites)), np.flatnonzero(evaluated))
