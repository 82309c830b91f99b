"""The journal of what regions remember: what was written is found again, also in a torn file."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.region.fingerprint import FrameFingerprint
from mixserver.region.hysteresis import RegionState
from mixserver.server.records.journal import EARLIER, JOURNAL, Journal
from mixserver.server.records.journal_reader import Found, Nearest, read_journal


def _fingerprint(number: float) -> FrameFingerprint:
    """Frames that lie 1 Å apart from each other."""
    return FrameFingerprint(np.array([number, 0.0, 0, 0, 0, 0, 0, 0]), 10.0)


def _state(number: int, atoms: int = 3) -> RegionState:
    """One that differs with its number, in all parts."""
    rng = np.random.default_rng(number)
    return RegionState(
        evaluations=number,
        active=np.arange(atoms),
        active_lambda=rng.uniform(size=atoms),
        selected=None if number % 3 else np.array([number]),
        summed=None if number % 2 else rng.normal(size=7),
        samples=number % 2 + 1,
        target_atoms=np.array([2, 5], dtype=np.intp) if number % 2 else None,
        target_lambda=np.array([0.25, 1.0]) if number % 2 else np.empty(0),
        work=0.1 * number,
    )


def _written(folder: Path, count: int, **limits: int) -> Path:
    journal = Journal(folder, **limits)
    for number in range(count):
        journal.write_state(0, _state(number))
        journal.write_frame(0, _fingerprint(number))
    journal.write_state(0, _state(count))
    journal.close()
    return folder / JOURNAL


def _found(folder: Path, number: float, bead: int = 0) -> Found | Nearest:
    past = read_journal(folder)
    assert past is not None
    return past.find(bead, _fingerprint(number))


def test_the_memory_of_any_evaluation_is_found(tmp_path: Path) -> None:
    _written(tmp_path, 30)
    for number in range(30):
        found = _found(tmp_path, number + 1e-8)
        assert isinstance(found, Found)
        assert found.state.to_dict() == _state(number).to_dict()
        assert found.later == 29 - number
    nearest = _found(tmp_path, 17.4)
    assert isinstance(nearest, Nearest)
    assert (nearest.evaluations, nearest.distance) == (30, pytest.approx(0.4))
    assert nearest.last is not None
    assert nearest.last.to_dict() == _state(30).to_dict()
    assert not nearest.goes_on
    beyond = _found(tmp_path, 30)
    assert isinstance(beyond, Nearest)
    assert beyond.goes_on
    assert read_journal(tmp_path / "none") is None


def test_of_equal_frames_the_last_counts_and_beads_are_apart(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(6):
        for bead in (0, 3):
            journal.write_state(bead, _state(10 * bead + number))
            journal.write_frame(bead, _fingerprint(number % 3))
    journal.close()
    found, other = _found(tmp_path, 1.0), _found(tmp_path, 1.0, bead=3)
    assert isinstance(found, Found)
    assert isinstance(other, Found)
    assert (found.state.evaluations, found.later) == (4, 1)
    assert other.state.evaluations == 34
    unknown = _found(tmp_path, 1.0, bead=1)
    assert unknown == Nearest(0, np.inf, None, goes_on=False)


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    memory = RegionState(active=np.arange(100_000), active_lambda=np.ones(100_000))
    for number in range(50):
        memory = dataclasses.replace(memory, evaluations=number, work=float(number))
        journal.write_state(0, memory)
        journal.write_frame(0, _fingerprint(number))
        journal.write_state(0, memory)
    journal.close()
    assert (tmp_path / JOURNAL).stat().st_size < 1_200_000 + 50 * 250
    found = _found(tmp_path, 48.0)
    assert isinstance(found, Found)
    assert found.state.work == 48.0
    assert len(found.state.active_lambda) == 100_000


@pytest.mark.parametrize("limits", [{"most_bytes": 2000}, {"most_records": 16}])
def test_old_evaluations_go_and_the_newest_stay(tmp_path: Path, limits: dict[str, int]) -> None:
    file = _written(tmp_path, 100, **limits)
    assert file.stat().st_size < 4000
    assert (tmp_path / EARLIER).stat().st_size < 4000
    assert isinstance(_found(tmp_path, 1), Nearest)
    for number in range(95, 100):
        found = _found(tmp_path, number)
        assert isinstance(found, Found)
        assert found.state.to_dict() == _state(number).to_dict()


@given(cut=st.floats(0.0, 1.0), damaged=st.booleans())
@settings(max_examples=40)
def test_a_torn_or_damaged_file_gives_what_is_whole_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, cut: float, damaged: bool
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    file = _written(folder, 12)
    content = bytearray(file.read_bytes())
    at = round(cut * (len(content) - 1))
    if damaged:
        content[at] ^= 0x40
    file.write_bytes(content if damaged else content[:at])
    if damaged and at < content.index(b"\n") + 1:
        with pytest.raises(ConfigError, match="must begin with"):
            read_journal(folder)
        return
    past = read_journal(folder)
    if past is None:
        assert not damaged
        return
    for number in range(12):
        found = past.find(0, _fingerprint(number))
        if isinstance(found, Found):
            assert found.state.to_dict() == _state(number).to_dict()
        else:
            assert past.damage or not damaged
    if damaged:
        assert "damaged or cut short at byte" in past.damage


def test_the_file_that_was_cut_between_two_is_done_without(tmp_path: Path) -> None:
    _written(tmp_path, 100, most_records=16)
    (tmp_path / JOURNAL).write_bytes(b"mixserver reg")  # killed when it began the next
    past = read_journal(tmp_path)
    assert past is not None
    assert any(isinstance(past.find(0, _fingerprint(n)), Found) for n in range(70, 100))
    (tmp_path / JOURNAL).write_bytes(b"something else")
    with pytest.raises(ConfigError, match="must begin with"):
        read_journal(tmp_path)


def test_a_full_disk_ends_the_journal_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(tmp_path)
    journal.write_state(0, _state(0))
    journal.write_frame(0, _fingerprint(0))
    size = (tmp_path / JOURNAL).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        for number in range(1, 5):
            journal.write_state(0, _state(number))
            journal.write_frame(0, _fingerprint(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.close()
    assert capsys.readouterr().out.count("cannot be written any more") == 1
    assert isinstance(_found(tmp_path, 0), Found)
    assert isinstance(_found(tmp_path, 3), Nearest)
