"""Folders of runs: numbers, chains, who is still in one."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.server.runs import (
    RestartOrigin,
    RunInfo,
    RunModel,
    is_running,
    new_run_folder,
    read_run_info,
    run_chain,
    run_folders,
    run_lock,
    was_killed,
    write_atomically,
)


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("9999", "10000", "0002", "latest", "2²", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "10001").write_text("a file")
    assert [run.name for run in run_folders(tmp_path)] == ["0002", "9999", "10000"]
    assert run_folders(tmp_path / "none") == []
    (tmp_path / "latest").rmdir()
    assert new_run_folder(tmp_path).name == "10002"


def _make(parent: Path) -> list[str]:
    return [new_run_folder(parent).name for _ in range(20)]


def test_processes_that_begin_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        names = [name for some in pool.map(_make, [tmp_path] * 3) for name in some]
    assert len(set(names)) == 60
    assert (tmp_path / "latest").resolve().name in names
    assert sorted(p.name for p in tmp_path.iterdir()) == [*sorted(names), "latest"]


def test_what_a_run_is_comes_back(tmp_path: Path) -> None:
    about = RunInfo(
        restarted_from=RestartOrigin("../0001", "RESTART", 20),
        models={"cheap": RunModel("a", "f" * 64)},
    )
    assert read_run_info(tmp_path) is None
    about.write(tmp_path)
    assert read_run_info(tmp_path) == about
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    (tmp_path / "run.json").write_text('{"version": 1, "models": 3}')
    with pytest.raises(ConfigError, match=r"run\.json .* delete it"):
        read_run_info(tmp_path)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.mkdir()  # nothing can be put in its place
    with pytest.raises(OSError, match="directory"):
        write_atomically(file, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_chain_is_followed_back_and_must_be_whole(tmp_path: Path) -> None:
    for number in range(1, 4):
        folder = tmp_path / f"{number:04d}"
        folder.mkdir()
        before = RestartOrigin(f"../{number - 1:04d}", "RESTART", 10) if number > 1 else None
        RunInfo(restarted_from=before).write(folder)
    assert [run.resolve().name for run in run_chain(tmp_path / "0003")] == ["0001", "0002", "0003"]
    RunInfo(restarted_from=RestartOrigin("../0003")).write(tmp_path / "0001")
    with pytest.raises(ConfigError, match="circle"):
        run_chain(tmp_path / "0003")
    RunInfo(restarted_from=RestartOrigin("../0000")).write(tmp_path / "0001")
    with pytest.raises(ConfigError, match="no longer exists"):
        run_chain(tmp_path / "0003")


def test_who_is_in_a_folder_is_seen_until_it_leaves(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with run_lock(tmp_path):
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError), run_lock(tmp_path):
        raise ConfigError("refused")
    assert not was_killed(tmp_path)
    (tmp_path / ".running").write_text("")  # left by a process that was killed
    assert not is_running(tmp_path)
    assert was_killed(tmp_path)
