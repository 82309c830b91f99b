"""The folder of a distillation: what is done stays done, what changed is made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.distill.config.schema import Fit, Soft
from mixserver.distill.step_cache import MARKER, RunFolder, Step, open_folder


def _walk(run: RunFolder, soft: Soft, fit: Fit) -> dict[str, Step]:
    """Three steps; the last two need the first only through the second, or not at all."""
    stages = {}
    for name, settings, needs in (
        ("hot", {"soft": soft}, ()),
        ("labels", {"groups": 4}, ("hot",)),
        ("fit", {"fit": fit}, ("labels",)),
        ("elastic", {"strain": 0.005}, ()),
    ):
        stage = run.step(name, settings, needs=needs)
        stages[name] = stage
        if not stage.done:
            (stage.folder / "result").write_text("made")
            stage.finish()
    return stages


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    with open_folder(tmp_path / "a") as run:
        first = {name: stage.outcome for name, stage in _walk(run, Soft(), Fit()).items()}
    with open_folder(tmp_path / "a") as run:
        again = {name: stage.outcome for name, stage in _walk(run, Soft(), Fit()).items()}
    assert first == again
    assert all(first.values())


def test_a_change_makes_its_step_and_what_needs_it_again_and_says_why(tmp_path: Path) -> None:
    with open_folder(tmp_path) as run:
        first = _walk(run, Soft(), Fit())
    with open_folder(tmp_path) as run:
        second = _walk(run, Soft(), Fit(force=2.0))
    assert second["fit"].why == ("fit.force was 1.0, is 2.0",)
    same = [name for name in first if first[name].outcome == second[name].outcome]
    assert same == ["hot", "labels", "elastic"]
    with open_folder(tmp_path) as run:
        third = _walk(run, Soft(temperatures=(300.0,)), Fit(force=2.0))
    assert third["hot"].why == ("soft.temperatures was [300.0,600.0,900.0], is [300.0]",)
    assert third["labels"].why == ("step hot was repeated",)
    assert third["fit"].why == ("step labels was repeated",)
    assert third["elastic"].outcome == first["elastic"].outcome


def test_a_step_that_was_begun_goes_on_with_its_files(tmp_path: Path) -> None:
    with open_folder(tmp_path) as run:
        stage = run.step("hot", {"soft": Soft()})
        (stage.folder / "300K").mkdir()
        (stage.folder / "300K" / "part").write_text("half")
    with open_folder(tmp_path) as run:
        stage = run.step("hot", {"soft": Soft()})
        assert not stage.done
        assert (stage.folder / "300K" / "part").exists()
    with open_folder(tmp_path) as run:
        stage = run.step("hot", {"soft": Soft(seed=2)})
        assert stage.why == ("soft.seed was 1, is 2",)
        assert [entry.name for entry in stage.folder.iterdir()] == [MARKER]


def test_a_kill_while_files_are_deleted_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_folder(tmp_path) as run:
        stage = run.step("hot", {"seed": 1})
        (stage.folder / "old").write_text("old")
        stage.finish()

    def killed(path: Path) -> None:
        raise KeyboardInterrupt(path)

    with monkeypatch.context() as patch, open_folder(tmp_path) as run:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            run.step("hot", {"seed": 2})
    assert (tmp_path / "hot" / "old").exists()
    with open_folder(tmp_path) as run:
        stage = run.step("hot", {"seed": 2})
        assert not stage.done
        assert not (stage.folder / "old").exists()


def test_files_from_outside_count_by_what_is_in_them(tmp_path: Path) -> None:
    file = tmp_path / "si.xyz"
    file.write_text("one")
    with open_folder(tmp_path / "a") as run:
        run.step("hot", {}, files={"structure": file}).finish()
    with open_folder(tmp_path / "a") as run:
        file.touch()
        assert run.step("hot", {}, files={"structure": file}).done
    file.write_text("two")
    with open_folder(tmp_path / "a") as run:
        stage = run.step("hot", {}, files={"structure": file})
        assert stage.why == ("the file structure has changed",)
        with pytest.raises(ConfigError, match="cannot be read"):
            run.step("labels", {}, files={"model": tmp_path / "none"})


def test_what_is_not_ours_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "hot").mkdir()
    (tmp_path / "hot" / "thesis.tex").write_text("years")
    with (
        open_folder(tmp_path) as run,
        pytest.raises(ConfigError, match="does not belong to"),
    ):
        run.step("hot", {})
    assert (tmp_path / "hot" / "thesis.tex").read_text() == "years"


def test_a_broken_marker_is_told(tmp_path: Path) -> None:
    with open_folder(tmp_path) as run:
        run.step("hot", {})
    (tmp_path / "hot" / MARKER).write_text("{")
    with open_folder(tmp_path) as run, pytest.raises(ConfigError, match="not the marker of a step"):
        run.step("hot", {})


def test_a_step_cannot_begin_before_what_it_needs(tmp_path: Path) -> None:
    with open_folder(tmp_path) as run:
        run.step("hot", {})
        with pytest.raises(ValueError, match="needs hot, which is not done"):
            run.step("labels", {}, needs=("hot",))
        with pytest.raises(ValueError, match="letters"):
            run.step("../away", {})


def test_two_distillations_do_not_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom mixserver.distill.step_cache import open_folder\n"
        f"with open_folder(pathlib.Path({str(tmp_path)!r})):\n"
        "    print('mine', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with (
            pytest.raises(ConfigError, match=rf"process {other.pid}\) uses it"),
            open_folder(tmp_path),
        ):
            pass
    finally:
        other.kill()
        other.communicate()
    with open_folder(tmp_path):  # the kernel gave the lock of the dead one back
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
