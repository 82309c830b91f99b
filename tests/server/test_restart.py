"""Which run is gone on from, and whether it is still the same potential."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.config import Config, load_case
from mixserver.config.load import parse
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology
from mixserver.server.restart import restart_file, unfinished_file
from mixserver.server.restart_changes import changes_since
from mixserver.server.runs import RestartOrigin, RunInfo, RunModel, run_lock
from mixserver.server.same_potential import (
    atoms_digest,
    check_same_atoms,
    check_same_settings,
    last_models,
    model_differences,
    setting_differences,
)

MINIMAL = Path(__file__).parents[2] / "inputs/minimal"
TEXT = (MINIMAL / "mix.toml").read_text()


def _left(run: Path, step: int, name: str = "RESTART", begun: int | None = None) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(f"<simulation><step> {step} </step></simulation>")
    if begun is not None:
        (run / "RESTART.in").write_text(f"<simulation><step>{begun}</step></simulation>")
    return run / name


def test_the_newest_run_that_made_a_step_is_gone_on_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs"):
        restart_file(tmp_path)
    (tmp_path / "0001").mkdir()
    _left(tmp_path / "0002", 0)
    with pytest.raises(ConfigError, match="made a step"):
        restart_file(tmp_path)
    made = _left(tmp_path / "9999", 20)
    assert restart_file(tmp_path) == made
    _left(tmp_path / "10000", 20, begun=20)  # refused, and ended where it began
    assert restart_file(tmp_path) == made
    later = _left(tmp_path / "10001", 21, begun=20)
    assert restart_file(tmp_path) == later
    assert restart_file(tmp_path, before=tmp_path / "10001") == made


def test_only_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    assert unfinished_file(tmp_path) is None
    shutil.copy(MINIMAL / "init.xyz", tmp_path)
    text = (MINIMAL / "input.xml").read_text()
    total = int(re.findall("<total_steps>(.*)</total_steps>", text)[0])

    def left(run: str, step: int) -> Path:
        (tmp_path / run).mkdir()
        file = tmp_path / run / "RESTART"
        file.write_text(text.replace("<total_steps>", f"<step>{step}</step><total_steps>"))
        return file

    interrupted = left("0001", 5)
    assert unfinished_file(tmp_path) == interrupted
    assert unfinished_file(tmp_path, steps=5) is None
    left("0002", total)
    assert unfinished_file(tmp_path) is None
    assert unfinished_file(tmp_path, steps=total + 1) == tmp_path / "0002/RESTART"
    assert unfinished_file(tmp_path, before=tmp_path / "0002") == interrupted
    with run_lock(tmp_path / "0002"), pytest.raises(ConfigError, match="still running"):
        unfinished_file(tmp_path)


def test_a_checkpoint_is_gone_on_from_where_ipi_left_no_restart(tmp_path: Path) -> None:
    run = tmp_path / "0001"
    _left(run, 10, "simulation.chk_10")
    newer = _left(run, 20, "simulation.chk_20")
    _left(run, 30, "#simulation.chk#0#")
    (run / "simulation.chk_30").write_text("<simulation><step>30</step><beads>")
    assert restart_file(tmp_path) == newer
    restart = _left(run, 20)
    assert restart_file(tmp_path) == restart
    (tmp_path / "case.chk").write_text("<simulation><step>90</step></simulation>")
    (run / "case.chk").symlink_to(tmp_path / "case.chk")  # a link to the case's own file
    assert restart_file(tmp_path) == restart


def test_a_run_that_still_goes_on_is_not_gone_on_from(tmp_path: Path) -> None:
    made = _left(tmp_path / "0001", 5)
    _left(tmp_path / "0002", 7)
    with run_lock(tmp_path / "0002"), pytest.raises(ConfigError, match="still running"):
        restart_file(tmp_path)
    with run_lock(tmp_path / "0002"):
        assert restart_file(tmp_path, before=tmp_path / "0002") == made


def test_ipi_is_given_the_time_to_write_its_restart_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = _left(tmp_path / "0001", 5)
    killed = tmp_path / "0002"
    killed.mkdir()
    (killed / ".running").write_text("")
    writing = threading.Timer(0.5, lambda: _left(killed, 9))
    writing.start()
    assert restart_file(tmp_path) == killed / "RESTART"
    writing.join()
    (killed / "RESTART").unlink()
    assert restart_file(tmp_path) == older
    assert "i-PI wrote no RESTART" in capsys.readouterr().out


def _config(*changes: tuple[str, str]) -> Config:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


HYSTERESIS = "[region.hysteresis]\ntime_in = 2.0\ntime_out = 3.0\n[models.cheap]"
BY_FORCE = (('kind = "energy"', 'kind = "force"'), ("follow = true", ""))


@pytest.mark.parametrize(
    ("then", "change", "said"),
    [
        ((), ("core_radius = 4.0", "core_radius = 4.5"), ["region.core_radius: 4.0 -> 4.5"]),
        (BY_FORCE, ("core_radius = 4.0", "core_radius = 5"), ["region.core_radius: 4.0 -> 5.0"]),
        ((), ("[132]", "[131, 4]"), ["region.seeds.indices: [132] -> [131, 4]"]),
        (
            BY_FORCE,
            ("[models.cheap]", HYSTERESIS),
            [
                "region.hysteresis.time_in: none -> 2.0",
                "region.hysteresis.time_out: none -> 3.0",
            ],
        ),
        (
            (),
            ("[models.cheap]", "zeros = { Ar = 0.1 }\n[models.cheap]"),
            ["mixing.zeros.Ar: none -> 0.1"],
        ),
        (
            (),
            ("[models.expensive]", "[models.expensive]\nreceptive_field = 7.0"),
            ["models.expensive.receptive_field: none -> 7.0"],
        ),
    ],
)
def test_every_setting_that_defines_the_potential_is_told(
    then: tuple[tuple[str, str], ...], change: tuple[str, str], said: list[str]
) -> None:
    assert setting_differences(_config(*then), _config(*then, change)) == said


@pytest.mark.parametrize(
    "change",
    [
        ("[models.cheap]", "[workers]\npatience_s = 9.0\n[models.cheap]"),
        ("[models.cheap]", '[models.cheap]\nspecies = ["Ar"]'),
        ("[models.cheap]", "[record]\nevery = 7\n[models.cheap]"),
        ('"unix:minimal"', '"unix:other"'),
        ("blend_width = 3.0 ", 'blend_width = 3.0\nprofile = "quintic" '),
        ('kind = "energy"', 'kind = "energy"\nbulk = "bulk.xyz"'),
        ('role = "cheap"', 'role = "cheap"\ncount = 3'),
    ],
)
def test_what_changes_no_potential_may_change(change: tuple[str, str]) -> None:
    assert setting_differences(_config(), _config(change)) == []


@given(radius=st.floats(0.1, 9.0), width=st.floats(0.1, 9.0), seed=st.integers(0, 255))
def test_settings_differ_exactly_where_they_do(radius: float, width: float, seed: int) -> None:
    now = _config(("4.0 ", f"{radius} "), ("3.0 ", f"{width} "), ("[132]", f"[{seed}]"))
    keys = [line.split(":")[0] for line in setting_differences(_config(), now)]
    differ = {"region.core_radius": radius != 4.0, "region.blend_width": width != 3.0}
    differ["region.seeds.indices"] = seed != 132
    assert sorted(keys) == sorted(key for key, does in differ.items() if does)


def test_an_earlier_run_of_other_settings_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "mix.toml").write_text(TEXT)
    check_same_settings(tmp_path, load_case(tmp_path).config)
    with pytest.raises(ConfigError, match=r"blend_width: 3\.0 -> 2\.0.*start a fresh run"):
        check_same_settings(tmp_path, _config(("blend_width = 3.0", "blend_width = 2.0")))


def test_other_models_are_told_by_role() -> None:
    a, b = RunModel("a", "1"), RunModel("b", "2")
    assert model_differences({"cheap": a, "expensive": b}, {"cheap": a, "expensive": b}) == []
    assert model_differences({"cheap": a}, {"cheap": a, "expensive": b}) == []
    assert model_differences({"cheap": a}, {"cheap": b}) == ["the cheap model: a (1) -> b (2)"]
    assert model_differences({"cheap": a}, {"cheap": RunModel("renamed", "1")}) == []


def test_models_are_those_of_the_last_run_that_ran(tmp_path: Path) -> None:
    models = {"cheap": RunModel("a", "1")}
    for number, found in ((1, models), (2, {}), (3, {})):
        (tmp_path / f"000{number}").mkdir()
        origin = RestartOrigin(f"../000{number - 1}") if number > 1 else None
        RunInfo(restarted_from=origin, models=found).write(tmp_path / f"000{number}")
    assert last_models(tmp_path / "0003") == models
    RunInfo().write(tmp_path / "0001")
    assert last_models(tmp_path / "0003") == {}


@pytest.mark.parametrize(
    "now",
    [
        Topology(np.array([14, 2, 14], np.int32)),
        Topology(np.array([14, 14], np.int32)),
        Topology(np.array([14, 14, 2], np.int32), (True, True, False)),
    ],
)
def test_other_atoms_are_refused(tmp_path: Path, now: Topology) -> None:
    then = atoms_digest(Topology(np.array([14, 14, 2], np.int32)))
    check_same_atoms(tmp_path, then)  # a run of long ago, without run.json
    RunInfo(atoms=then).write(tmp_path)
    check_same_atoms(tmp_path, then)
    with pytest.raises(ConfigError, match="other atoms: their elements, their order"):
        check_same_atoms(tmp_path, atoms_digest(now))


def test_what_has_changed_since_is_told(tmp_path: Path) -> None:
    case, run = tmp_path / "case", tmp_path / "case/runs/0001"
    shutil.copytree(MINIMAL, case, ignore=shutil.ignore_patterns("runs"))
    run.mkdir(parents=True)
    for name in ("mix.toml", "input.xml"):
        shutil.copy(case / name, run / name)
    RunInfo(versions={"mixserver": "0.0.1", "other": "1"}).write(run)
    assert changes_since(run, load_case(case)) == ["mixserver: version 0.0.1 -> 0.1.0"]
    RunInfo().write(run)
    for name, old, new in (
        ("mix.toml", "[models.cheap]", "[workers]\npatience_s = 9.0\n\n[models.cheap]"),
        ("mix.toml", "core_radius = 4.0", "core_radius = 5.0"),  # refused elsewhere
        ("input.xml", "> 5.0 </timestep>", "> 2.5 </timestep>"),
        ("input.xml", "<total_steps> 100", "<total_steps> 900"),
        ("input.xml", "filename='pos' stride='50'", "filename='pos' stride='10'"),
    ):
        text = (case / name).read_text()
        assert old in text
        (case / name).write_text(text.replace(old, new))
    told = changes_since(run, load_case(case))
    assert told[0] == "mix.toml: workers.patience_s: 5.0 -> 9.0"
    assert [line.split(" (without effect")[0] for line in told[1:]] == [
        "input.xml: simulation/output/trajectory[stride]: 50 -> 10",
        "input.xml: simulation/system/motion/dynamics/timestep: 5.0 -> 2.5",
    ]
