"""The drift of i-PI's conserved quantity, from files as i-PI and mixserver write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixserver.errors import ConfigError
from mixserver.record.drift import drift_of
from mixserver.record.report import Report, header, line

ATOMS = 100


def _run(folder: Path, conserved: np.ndarray, work: np.ndarray | None = None) -> Path:
    steps = np.arange(len(conserved))
    rows = np.column_stack((steps, 1e-3 * steps, conserved, np.full(len(steps), 300.0)))
    heads = ("step : n", "time{picosecond} : t", "conserved{electronvolt} : E", "temperature : T")
    with (folder / "simulation.out").open("w") as file:
        for at, head in enumerate(heads, 1):
            file.write(f"# column   {at}     --> {head}\n")
        np.savetxt(file, rows, fmt="%.12e")
    if work is not None:
        lines = [line(Report(evaluation=k, work=w)) for k, w in enumerate(work)]
        (folder / "mixserver.out").write_text(header() + "".join(lines))
    return folder


def test_a_slope_and_the_noise_about_it_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    steps = np.arange(5000)
    noise = rng.normal(scale=2e-4, size=len(steps))
    found = drift_of(_run(tmp_path, -50.0 + 3e-4 * 1e-3 * steps + noise), ATOMS)
    assert found.picoseconds == pytest.approx(4.999)
    assert found.drift == pytest.approx(3.0, abs=4 * found.error)
    assert 0.0 < found.error < 0.1
    assert found.fluctuation == pytest.approx(2.0, rel=0.05)
    assert found.temperature == 300.0


def test_what_is_skipped_does_not_count(tmp_path: Path) -> None:
    energy = np.full(2000, -50.0)
    energy[:500] += 1.0
    assert drift_of(_run(tmp_path, energy), ATOMS).drift < -100.0
    assert drift_of(tmp_path, ATOMS, skip=0.5).drift == pytest.approx(0.0, abs=1e-6)


def test_work_is_taken_off(tmp_path: Path) -> None:
    work = np.zeros(1000)
    work[400:] = 0.3
    found = drift_of(_run(tmp_path, -50.0 + work, work), ATOMS)
    assert found.drift == pytest.approx(0.0, abs=1e-6)
    assert found.work == pytest.approx(3000.0)


def test_work_that_cannot_be_told_step_by_step_is_refused(tmp_path: Path) -> None:
    _run(tmp_path, np.full(100, -50.0), np.linspace(0.0, 1.0, 400))
    with pytest.raises(ConfigError, match="one bead and one force component"):
        drift_of(tmp_path, ATOMS)


def test_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="20 are the least"):
        drift_of(_run(tmp_path, np.full(15, -50.0)), ATOMS)
    with pytest.raises(ConfigError, match="conserved"):
        drift_of(tmp_path.parent, ATOMS)
