"""The journal of what regions remember: what was written is found again, also in a torn file."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.errors import ConfigError
from mixserver.record.journal import EARLIER, JOURNAL, Found, Journal, Nearest, read_past
from mixserver.region.marks import Mark
from mixserver.region.memory import Memory


def _mark(number: float) -> Mark:
    """Frames that lie 1 Å apart from each other."""
    return Mark(np.array([number, 0.0, 0, 0, 0, 0, 0, 0]), 10.0)


def _memory(number: int, atoms: int = 3) -> Memory:
    """One that differs with its number, in all parts."""
    rng = np.random.default_rng(number)
    return Memory(
        evaluations=number,
        active=np.arange(atoms),
        expensive=rng.uniform(size=atoms),
        chosen=None if number % 3 else np.array([number]),
        summed=None if number % 2 else rng.normal(size=7),
        samples=number % 2 + 1,
        target=np.array([2, 5], dtype=np.intp) if number % 2 else None,
        targeted=np.array([0.25, 1.0]) if number % 2 else np.empty(0),
        work=0.1 * number,
    )


def _written(folder: Path, count: int, **limits: int) -> Path:
    journal = Journal(folder, **limits)
    for number in range(count):
        journal.remembered(0, _memory(number))
        journal.asked(0, _mark(number))
    journal.remembered(0, _memory(count))
    journal.close()
    return folder / JOURNAL


def _found(folder: Path, number: float, bead: int = 0) -> Found | Nearest:
    past = read_past(folder)
    assert past is not None
    return past.find(bead, _mark(number))


def test_the_memory_of_any_evaluation_is_found(tmp_path: Path) -> None:
    _written(tmp_path, 30)
    for number in range(30):
        found = _found(tmp_path, number + 1e-8)
        assert isinstance(found, Found)
        assert found.memory.to_dict() == _memory(number).to_dict()
        assert found.later == 29 - number
    nearest = _found(tmp_path, 17.4)
    assert isinstance(nearest, Nearest)
    assert (nearest.asked, nearest.distance) == (30, pytest.approx(0.4))
    assert nearest.last is not None
    assert nearest.last.to_dict() == _memory(30).to_dict()
    assert not nearest.goes_on
    beyond = _found(tmp_path, 30)
    assert isinstance(beyond, Nearest)
    assert beyond.goes_on
    assert read_past(tmp_path / "none") is None


def test_of_equal_frames_the_last_counts_and_beads_are_apart(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(6):
        for bead in (0, 3):
            journal.remembered(bead, _memory(10 * bead + number))
            journal.asked(bead, _mark(number % 3))
    journal.close()
    found, other = _found(tmp_path, 1.0), _found(tmp_path, 1.0, bead=3)
    assert isinstance(found, Found)
    assert isinstance(other, Found)
    assert (found.memory.evaluations, found.later) == (4, 1)
    assert other.memory.evaluations == 34
    unknown = _found(tmp_path, 1.0, bead=1)
    assert unknown == Nearest(0, np.inf, None, goes_on=False)


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    memory = Memory(active=np.arange(100_000), expensive=np.ones(100_000))
    for number in range(50):
        memory = dataclasses.replace(memory, evaluations=number, work=float(number))
        journal.remembered(0, memory)
        journal.asked(0, _mark(number))
        journal.remembered(0, memory)
    journal.close()
    assert (tmp_path / JOURNAL).stat().st_size < 1_200_000 + 50 * 250
    found = _found(tmp_path, 48.0)
    assert isinstance(found, Found)
    assert found.memory.work == 48.0
    assert len(found.memory.expensive) == 100_000


@pytest.mark.parametrize("limits", [{"most_bytes": 2000}, {"most_records": 16}])
def test_old_evaluations_go_and_the_newest_stay(tmp_path: Path, limits: dict[str, int]) -> None:
    file = _written(tmp_path, 100, **limits)
    assert file.stat().st_size < 4000
    assert (tmp_path / EARLIER).stat().st_size < 4000
    assert isinstance(_found(tmp_path, 1), Nearest)
    for number in range(95, 100):
        found = _found(tmp_path, number)
        assert isinstance(found, Found)
        assert found.memory.to_dict() == _memory(number).to_dict()


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
            read_past(folder)
        return
    past = read_past(folder)
    if past is None:
        assert not damaged
        return
    for number in range(12):
        found = past.find(0, _mark(number))
        if isinstance(found, Found):
            assert found.memory.to_dict() == _memory(number).to_dict()
        else:
            assert past.damage or not damaged
    if damaged:
        assert "damaged or cut short at byte" in past.damage


def test_the_file_that_was_cut_between_two_is_done_without(tmp_path: Path) -> None:
    _written(tmp_path, 100, most_records=16)
    (tmp_path / JOURNAL).write_bytes(b"mixserver reg")  # killed when it began the next
    past = read_past(tmp_path)
    assert past is not None
    assert any(isinstance(past.find(0, _mark(n)), Found) for n in range(70, 100))
    (tmp_path / JOURNAL).write_bytes(b"something else")
    with pytest.raises(ConfigError, match="must begin with"):
        read_past(tmp_path)


def test_a_full_disk_ends_the_journal_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(tmp_path)
    journal.remembered(0, _memory(0))
    journal.asked(0, _mark(0))
    size = (tmp_path / JOURNAL).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        for number in range(1, 5):
            journal.remembered(0, _memory(number))
            journal.asked(0, _mark(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.close()
    assert capsys.readouterr().out.count("cannot be written any more") == 1
    assert isinstance(_found(tmp_path, 0), Found)
    assert isinstance(_found(tmp_path, 3), Nearest)
