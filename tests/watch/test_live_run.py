"""What the page is told of runs that are over, failed, empty, damaged or elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_packed_frame import unpacked
from watched_folder import answer, app_of, ask, frame, ipi_frame, over, record, run_folder

from mixserver.core.structures import write_frame
from mixserver.server.runs import RunInfo
from mixserver.server.warnings.warning_log import WarningLog
from mixserver.watch.live_run import LiveRun
from mixserver.wire.status import EvaluationStatus, IpiStatus, Status

MINIMAL = Path(__file__).parents[2] / "inputs" / "minimal"


async def test_a_run_that_is_over(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    record(folder, 4, regions_every=2)
    WarningLog(folder).warn("pair", "two atoms are close")
    app = app_of(folder)
    state = await answer(app, "/api/state")
    assert state["status"] is None
    assert state["ended"] == "done"
    assert state["frames"] == 3  # evaluations 0 and 2, and the last one
    assert state["warnings"] == ["two atoms are close"]
    assert state["folder"] == str(folder)
    curves = await answer(app, "/api/curves")
    assert curves["evaluations"]["evaluation"] == [0, 1, 2, 3]
    about, found = unpacked((await ask(app, "/api/frames/1")).content)
    assert about["label"] == "evaluation 2"
    assert found["lambda"].tolist() == [255, 128, 1, 0, 0]


async def test_a_run_that_failed_shows_the_frame_that_did(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, ended="failed: the energy is not finite")
    record(folder, 2)
    write_frame(folder / "failed.xyz", frame(9))
    app = app_of(folder)
    state = await answer(app, "/api/state")
    assert state["ended"] == "failed: the energy is not finite"
    about, _ = unpacked((await ask(app, f"/api/frames/{state['frames'] - 1}")).content)
    assert about["label"] == "failed frame"
    assert about["lambda"] is False
    assert "λ is not known" in about["words"]


async def test_a_run_without_frames_says_where_they_come_from(tmp_path: Path) -> None:
    app = app_of(run_folder(tmp_path))
    state = await answer(app, "/api/state")
    assert state["frames"] == 0
    assert "record.regions_every" in state["frames_words"]
    assert (await ask(app, "/api/frames/0")).status_code == 404


async def test_a_case_without_runs_until_there_is_one(tmp_path: Path) -> None:
    shutil.copytree(MINIMAL, tmp_path / "case", ignore=shutil.ignore_patterns("runs"))
    run = LiveRun(str(tmp_path / "case"), over)
    state = msgspec.json.decode(run.state())
    assert "has no runs" in state["no_folder"]
    assert state["folder"] == ""
    assert msgspec.json.decode(run.curves()) == {}
    with pytest.raises(IndexError):
        run.frame(0)


async def test_frames_of_a_trajectory_have_lambda_as_the_case_computes_it(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    for name in ("mix.toml", "init.xyz", "input.xml"):
        shutil.copy(MINIMAL / name, folder / name)
    positions = np.loadtxt(MINIMAL / "init.xyz", skiprows=2, usecols=(1, 2, 3))
    text = ipi_frame(0, positions).replace("    9.00000", "   21.20000")
    (folder / "simulation.pos_0.xyz").write_text(text)
    app = app_of(folder)
    assert (await answer(app, "/api/state"))["frames"] == 1
    about, found = unpacked((await ask(app, "/api/frames/0")).content)
    assert about["label"] == "step 0"
    assert about["words"] == ""
    assert np.flatnonzero(found["seed"]).tolist() == [132]
    places = found["xyz"].reshape(-1, 3)
    distance = np.linalg.norm(places - places[132], axis=1)
    np.testing.assert_array_equal(found["lambda"] == 255, distance < 4.0)
    np.testing.assert_array_equal(found["lambda"] == 0, distance >= 7.0)


async def test_a_trajectory_whose_case_is_gone_is_shown_without_lambda(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    text = ipi_frame(3, frame(0).positions, "Xe")
    (folder / "simulation.pos_0.xyz").write_text(text)
    app = app_of(folder)
    await answer(app, "/api/state")
    about, found = unpacked((await ask(app, "/api/frames/0")).content)
    assert about["label"] == "step 3"
    assert about["lambda"] is False
    assert "λ is not known" in about["words"]
    assert found["number"].tolist() == [54] * 5


async def test_a_damaged_frame_is_an_answer_in_words(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    text = ipi_frame(0, frame(0).positions).replace("e+00", "e+x0", 1)
    (folder / "simulation.pos_0.xyz").write_text(text)
    app = app_of(folder)
    await answer(app, "/api/state")
    found = await ask(app, "/api/frames/0")
    assert found.status_code == 500
    assert "cannot be read" in found.text


async def test_files_that_are_something_else(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    (folder / "run.json").write_text("{")
    (folder / "warnings.jsonl").write_text("x\ny\n")
    (folder / "input.xml").write_text("<simulation>")
    state = await answer(app_of(folder), "/api/state")
    assert "run.json" in state["ended"]
    assert "warnings.jsonl" in state["warnings"][0]
    assert state["frames"] == 0


def test_a_run_on_another_machine_is_shown_without_its_files(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)  # the same path here is another run: it does not run

    def elsewhere() -> Status:
        return Status(
            **dict.fromkeys(("program", "case", "workers_at"), ""),
            **dict.fromkeys(("problems", "workers", "roles"), ()),
            version=1,
            time=0.0,
            run=str(folder),
            host="head",
            pid=1,
            stage="running",
            up_s=1.0,
            healthy=True,
            counts={},
            evaluations=EvaluationStatus(total=3, per_s=None, last_age_s=None),
            ipi=IpiStatus(state="connected", addresses=(), silent_s=None),
            warnings=("hot",),
        )

    state = msgspec.json.decode(LiveRun("tcp://head:5556", elsewhere).state())
    assert state["folder"] == ""
    assert "on head" in state["no_folder"]
    assert state["status"]["evaluations"]["total"] == 3
    assert state["warnings"] == ["hot"]


def test_a_newer_run_of_the_case_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixserver.watch.live_run._FRESH_S", 0.0)
    first = run_folder(tmp_path)
    record(first, 2)
    run = LiveRun(str(tmp_path / "runs"), over)
    assert msgspec.json.decode(run.state())["curves"] == 2
    second = tmp_path / "runs" / "0002"
    second.mkdir()
    RunInfo(ended="stopped").write(second)
    state = msgspec.json.decode(run.state())
    assert (state["folder"], state["ended"], state["curves"]) == (str(second), "stopped", 0)
