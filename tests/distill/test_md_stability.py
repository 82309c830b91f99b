"""Whether crystals hold: real i-PI and LAMMPS, one potential that does and one that does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from argon import SOFT, crystal, distillation, project_in
from ase.io import read

from mixserver.analysis.bulk.properties import BulkProperties
from mixserver.core.frame import Frame
from mixserver.distill.config.load import DistillationProject
from mixserver.distill.config.schema import Hold, Soft
from mixserver.distill.data import nvt_input as nvt
from mixserver.distill.data.labels import load_labels
from mixserver.distill.data.melting import AWAY, nearest_distance
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.validation.active_learning import fit_until_stable
from mixserver.distill.validation.md_stability import (
    FailureMonitor,
    TrajectoryEnd,
    displacement_limit,
    temperature,
)

GOOD = "pair_style lj/cut 5.2\npair_coeff 1 1 0.0104 3.4\n"
BAD = "pair_style lj/cut 5.2\npair_coeff 1 1 1.0 2.5\n"
"""Its wells are where argon has no atoms: the crystal tears."""
HOLD = "[hold]\nps = 0.6\ncopies = 2\nrounds = 2\n"


@dataclass(frozen=True)
class Potential:
    """A potential that was not fitted."""

    commands: Path


def _monitor(sites: Frame) -> FailureMonitor:
    return FailureMonitor(nvt.TrajectoryPlan(40.0, 0, 1, 5.0, 100.0, 1000, 0, 1), sites, 2.0)


def _pulled(sites: Frame, by: float) -> Frame:
    positions = sites.positions.copy()
    positions[5, 1] += by
    return sites.topology.frame(positions, sites.cell)


def test_frames_from_before_and_after_an_atom_left_are_kept() -> None:
    sites = crystal(2)
    monitor = _monitor(sites)
    calm = np.zeros_like(sites.positions)
    for step in range(101):
        monitor.after(_pulled(sites, 0.01 * step), calm, step)
    assert monitor.outcome().broke_ps is None
    assert monitor.outcome().frames == ()
    for step in range(101, 130):
        monitor.after(_pulled(sites, 0.02 * step), calm, step)
    with pytest.raises(TrajectoryEnd):
        monitor.after(_pulled(sites, 2.6), calm, 130)
    outcome = monitor.outcome()
    assert outcome.broke_ps == pytest.approx(0.51)  # step 102, the first check at more than 2 Å
    moved = [frame.positions[5, 1] - sites.positions[5, 1] for frame in outcome.frames]
    assert moved == pytest.approx([0.8, 0.9, 1.0, 2.04, 2.2, 2.4, 2.6])


def test_a_torn_crystal_is_not_followed() -> None:
    sites = crystal(2)
    monitor = _monitor(sites)
    torn = np.zeros_like(sites.positions)
    torn[3, 0] = 60.0
    with pytest.raises(TrajectoryEnd):
        monitor.after(sites, torn, 7)
    assert monitor.outcome().broke_ps == pytest.approx(0.035)
    assert len(monitor.outcome().frames) == 1


def test_atoms_that_fell_into_each_other_are_not_asked_about() -> None:
    """LAMMPS would end, again and again, and with it all workers."""
    sites = crystal(2)
    monitor = _monitor(sites)
    fallen = sites.positions.copy()
    fallen[1] = sites.positions[0] + [0.5, 0.0, 0.0]
    with pytest.raises(TrajectoryEnd, match="two atoms collided"):
        monitor.before(sites.topology.frame(fallen, sites.cell), 12)
    assert monitor.outcome().broke_ps == pytest.approx(0.06)


def test_atoms_may_go_as_far_as_those_of_the_expensive_model_and_more() -> None:
    sites = crystal(2)
    assert displacement_limit([sites.positions], sites) == pytest.approx(
        AWAY * nearest_distance(sites)
    )
    far = sites.positions.copy()
    far[0] += (0.0, 3.0, 0.0)
    drifted = far + 5.0
    assert displacement_limit([sites.positions, drifted], sites) == pytest.approx(3.9)


def test_it_is_hotter_than_what_was_sampled() -> None:
    assert temperature(Hold(), Soft(temperatures=(300.0, 900.0))) == pytest.approx(1080.0)
    assert temperature(Hold(temperature=500.0), Soft()) == 500.0


def _known(order: DistillationProject, bulk: BulkProperties | None = None) -> ReferenceData:
    """A material of which nothing but the crystal matters here."""
    from mixserver.wire.worker import ModelCard

    card = ModelCard(engine="toy", name="toy", fingerprint="0", weights=True)
    frame = crystal(1)
    return ReferenceData(
        card=card,
        bulk=bulk,  # type: ignore[arg-type]
        crystal=frame,
        training=(),
        strain_set=(),
        partition="",
        files={},
        reach=5.2,
        nearest=3.5,
    )


@pytest.mark.lammps
async def test_what_breaks_is_labelled_and_tried_again(tmp_path: Path) -> None:
    order = project_in(tmp_path, soft=SOFT, more=HOLD)
    order.folder.mkdir()
    potentials = [BAD, GOOD]
    seen: list[int] = []

    async def fit(known: ReferenceData) -> Potential:
        seen.append(len(known.training))
        file = tmp_path / "ar.in"
        file.write_text(potentials[min(len(seen), 2) - 1])
        return Potential(file)

    async with distillation(order) as run:
        run.run.step("crystal", {}).finish()
        known, made, trials = await fit_until_stable(run, _known(order), fit)
    assert made.commands.read_text() == GOOD
    assert [trial.survived for trial in trials] == [0, 2]
    assert trials[0].broke[0] is not None
    assert trials[0].temperature == pytest.approx(48.0)
    lost = read(order.folder / "hold-1/lost.xyz", index=":")
    assert trials[0].frames == len(known.training) == seen[1] > 0
    assert len(known.training) <= len(lost)
    labelled = load_labels(known.files[known.training[0]])
    assert labelled.structure.kind == "lost"
    assert labelled.structure.groups == 4
    np.testing.assert_allclose(labelled.structure.cell, lost[0].cell[:], atol=1e-6)
    assert not (order.folder / "hold-2/lost.xyz").exists()

    # a second start finds both trials
    seen.clear()
    made = (order.folder / "hold-1/trial.json").stat().st_mtime_ns
    async with distillation(order) as run:
        run.run.step("crystal", {})
        _, _, again = await fit_until_stable(run, _known(order), fit)
    assert again == trials
    assert (order.folder / "hold-1/trial.json").stat().st_mtime_ns == made
