"""Killed at any evaluation and started again, or gone back with i-PI: regions are as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mixserver.core.errors import UpstreamError
from mixserver.core.frame import Frame, Topology
from mixserver.region.seeds import CriterionSeeds, SphereSeeds
from mixserver.region.shell_region import ShellRegion
from mixserver.server.records.journal import Journal
from mixserver.server.region_memory import JournalledRegion

ATOMS = 40
CELL = 12.0 * np.eye(3)
TOPOLOGY = Topology(np.full(ATOMS, 18, dtype=np.int32))
BEADS = (0, 2)
STEPS = 14


def _selector(kind: str) -> ShellRegion:
    if kind == "held":
        seeds = CriterionSeeds(
            "c", low=0.9, high=9.0, every=4, sample_every=1, samples=2, initial=(3,), eligible=None
        )
        return ShellRegion(
            seeds, core_radius=2.0, blend_width=2.0, hysteresis=(3.0, 5.0), held=True, atoms=ATOMS
        )
    sphere = SphereSeeds((6.0, 6.0, 6.0), 1.5, fractional=False)
    return ShellRegion(sphere, core_radius=1.0, blend_width=2.0, hysteresis=(3.0, 6.0), atoms=ATOMS)


def _path(bead: int) -> list[np.ndarray]:
    """(n, 3) Å of each step of a bead."""
    rng = np.random.default_rng(bead)
    start = rng.uniform(0.0, 12.0, size=(ATOMS, 3))
    steps = rng.normal(scale=0.3, size=(STEPS, ATOMS, 3))
    return list(start + np.cumsum(steps, axis=0))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{value:16.8e}") for value in values.ravel()]).reshape(values.shape)


def _evaluate(
    region_model: ShellRegion | JournalledRegion,
    positions: np.ndarray,
    bead: int,
    *,
    answered: bool = True,
) -> tuple[list[float], float]:
    """One evaluation as a step makes it: lambda and work."""
    frame = Frame(TOPOLOGY, positions, CELL, bead)
    values = np.sin(np.round(positions, 5).sum(axis=1))
    evaluation = region_model.evaluation(frame)
    if evaluation.selects:
        evaluation.record_criterion(values)
    region = evaluation.region()
    if evaluation.criterion and not evaluation.selects:
        evaluation.record_criterion(values)
    if answered:
        evaluation.commit(0.01 * float(region.lambda_.sum()))
    return np.round(region.lambda_, 6).tolist(), round(evaluation.work, 6)


def _straight(kind: str) -> dict[int, list[tuple[list[float], float]]]:
    """What every step of every bead gives when nothing happens."""
    region_model = _selector(kind)
    found: dict[int, list[tuple[list[float], float]]] = {bead: [] for bead in BEADS}
    for step in range(STEPS):
        for bead in BEADS:
            found[bead].append(_evaluate(region_model, _path(bead)[step], bead))
    return found


@pytest.mark.parametrize("kind", ["held", "hysteresis"])
@given(data=st.data())
@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_kills_and_ways_back_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    straight = _straight(kind)
    place = tmp_path_factory.mktemp("runs")

    def server() -> JournalledRegion:
        earlier = sorted(place.iterdir(), reverse=True)
        folder = place / f"{len(earlier):04d}"
        folder.mkdir()
        made = JournalledRegion(_selector(kind), Journal(folder), earlier)
        made.connected()
        return made

    region_model = server()
    step, disturbances = 0, 0
    while step < STEPS:
        what = data.draw(st.sampled_from(["go on"] * 3 + ["kill", "back", "drop"]))
        if what != "go on" and step > 0 and disturbances < 6:
            disturbances += 1
            unanswered = data.draw(st.integers(0, len(BEADS)))
            for bead in BEADS[:unanswered]:  # the kill comes in the middle of a step
                _evaluate(region_model, _path(bead)[step], bead, answered=False)
            if what == "kill":  # i-PI's RESTART is of the last step it finished, or it waits
                region_model.close()
                region_model = server()
                step -= data.draw(st.integers(0, 1))
            elif what == "back":
                region_model.connected()
                step = data.draw(st.integers(max(0, step - 5), step - 1))
            else:
                region_model.connected()
        for bead in BEADS:
            positions = _path(bead)[step]
            if data.draw(st.booleans()):
                positions = _rounded(positions)
            assert _evaluate(region_model, positions, bead) == straight[bead][step]
        step += 1
    region_model.close()


def test_the_way_back_is_told_and_goes_behind_the_start_of_this_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = _straight("held")[0]
    first = JournalledRegion(_selector("held"), Journal(tmp_path / "a"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for step in range(9):
        _evaluate(first, _path(0)[step], 0)
    first.close()
    second = JournalledRegion(_selector("held"), Journal(tmp_path / "b"), [tmp_path / "a"])
    for step in (8, 9, 10):
        assert _evaluate(second, _path(0)[step], 0) == straight[step]
    capsys.readouterr()
    for back in (9, 3):
        second.connected()
        assert _evaluate(second, _rounded(_path(0)[back]), 0) == straight[back]
        assert "gone back to an earlier frame" in capsys.readouterr().out
    second.close()


def test_a_frame_of_no_evaluation_is_refused_with_what_to_do(tmp_path: Path) -> None:
    first = JournalledRegion(_selector("held"), Journal(tmp_path))
    for step in range(3):
        _evaluate(first, _path(0)[step], 0)
    first.close()
    (tmp_path / "new").mkdir()
    second = JournalledRegion(_selector("held"), Journal(tmp_path / "new"), [tmp_path])
    with pytest.raises(UpstreamError, match="not among the 3 evaluations"):
        _evaluate(second, _path(0)[0] + 3.0, 0)
    third = JournalledRegion(_selector("held"), Journal(tmp_path / "new"), [tmp_path])
    with pytest.raises(UpstreamError, match=r"bead 5, but the journal of .*"):
        _evaluate(third, _path(5)[0], 5)
    journal = tmp_path / "region.journal"
    journal.write_bytes(journal.read_bytes()[:400])
    fourth = JournalledRegion(_selector("held"), Journal(tmp_path / "new"), [tmp_path])
    with pytest.raises(UpstreamError, match="damaged or cut short"):
        _evaluate(fourth, _path(0)[2], 0)


def test_another_trajectory_at_a_living_server_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region_model = JournalledRegion(_selector("held"), Journal(tmp_path))
    for step in range(5):
        _evaluate(region_model, _path(0)[step], 0)
    region_model.connected()
    _evaluate(region_model, _path(0)[5], 0)  # i-PI lives and goes on: nothing to tell
    assert capsys.readouterr().out == ""
    region_model.connected(restarted=True)  # it did not listen in between
    with pytest.raises(UpstreamError, match="start it from the RESTART"):
        _evaluate(region_model, _path(0)[5] + 4.0, 0)
    region_model.connected(restarted=False)
    _evaluate(region_model, _path(0)[5] + 4.0, 0)
    assert "was not evaluated before" in capsys.readouterr().out
    region_model.close()
