"""Frames of growing files are found where they are, however the files grow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched_folder import ipi_frame, record

from mixserver.watch.frame_index import FrameIndex


@settings(max_examples=60)
@given(
    atoms=st.lists(st.integers(1, 4), min_size=1, max_size=7),
    cuts=st.lists(st.integers(0, 2500), max_size=5),
    wide=st.booleans(),
)
def test_all_complete_frames_and_no_others(atoms: list[int], cuts: list[int], wide: bool) -> None:
    scale = 1e120 if wide else 1.0  # i-PI's columns grow with three digits of an exponent
    frames = [
        ipi_frame(step, np.full((n, 3), scale if step % 2 else 1.0)) for step, n in enumerate(atoms)
    ]
    whole = "".join(frames).encode()
    ends = np.cumsum([len(one) for one in frames])
    with tempfile.TemporaryDirectory() as folder:
        index = FrameIndex(Path(folder) / "pos.xyz")
        for cut in [*sorted(cuts), len(whole)]:
            index.file.write_bytes(whole[:cut])
            index.update()
            assert len(index.frames) == np.count_nonzero(ends <= cut)
        assert [index.text(at) for at in range(len(frames))] == frames
        assert [one.number for one in index.frames] == list(range(len(frames)))


def test_frames_of_the_server(tmp_path: Path) -> None:
    record(tmp_path, 12, regions_every=1)
    index = FrameIndex(tmp_path / "regions.xyz")
    index.update()
    assert [one.number for one in index.frames] == list(range(12))
    assert {one.atoms for one in index.frames} == {5}


@pytest.mark.parametrize("text", ["", "\n\n", "5\nno step here\n", "x" * 10_000, "999999999\n# S"])
def test_a_file_that_is_something_else_has_no_frames(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.xyz").write_text(text)
    index = FrameIndex(tmp_path / "f.xyz")
    index.update()
    assert index.frames == []


def test_a_file_that_is_begun_again(tmp_path: Path) -> None:
    index = FrameIndex(tmp_path / "pos.xyz")
    index.file.write_text(ipi_frame(0, np.ones((2, 3))) + ipi_frame(1, np.ones((2, 3))))
    index.update()
    index.file.write_text(ipi_frame(7, np.ones((2, 3))))
    index.update()
    assert [one.number for one in index.frames] == [7]
