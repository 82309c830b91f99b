"""Ghost forces along the radius, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from mixserver.analysis.ghost_plot import Points, along_radius, draw_ghost_forces
from mixserver.core.errors import ConfigError

DISTANCE = np.array([0.0, 2.0, 4.0, 4.0, 6.0, 12.0])
SIZE = np.array([0.0, 0.1, 0.3, 0.4, 0.2, 0.0])


def test_every_atom_is_a_point_and_bins_are_rms() -> None:
    axes = Figure().subplots()
    along_radius(axes, {"bare": Points(DISTANCE, SIZE)}, core=3.0, blend=7.0, source="seed")
    points, line = axes.get_lines()
    np.testing.assert_array_equal(points.get_xydata(), np.stack([DISTANCE, SIZE], axis=1))
    assert line.get_label() == "bare"
    np.testing.assert_allclose(line.get_ydata(), [0.0, 0.1, np.sqrt(0.125), 0.2, 0.0])
    assert {text.get_text() for text in axes.texts} == {"core", "blend"}
    assert "seed" in axes.get_xlabel()


@pytest.mark.parametrize("size", [np.zeros(6), SIZE])
def test_even_nothing_can_be_drawn(tmp_path: Path, size: np.ndarray) -> None:
    file = draw_ghost_forces(
        tmp_path / "a.png", {"bare": Points(DISTANCE, size)}, core=0.0, blend=7.0, source="core"
    )
    assert file.read_bytes().startswith(b"\x89PNG")
    draw_ghost_forces(
        file, {"none": Points(np.empty(0), np.empty(0))}, core=0.0, blend=0.0, source="x"
    )


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        draw_ghost_forces(
            tmp_path / "no" / "a.png",
            {"bare": Points(DISTANCE, SIZE)},
            core=1.0,
            blend=2.0,
            source="seed",
        )
