"""The analyses of the studies of helium in tungsten, on results whose answer is known."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mixserver.studies.study import Outcome, Values
from mixserver.studies.table import Table

INPUTS = Path(__file__).resolve().parents[2] / "inputs"


@contextmanager
def study_of(case: str) -> Iterator[ModuleType]:
    """The module study.py of a case, with what it imports from beside it."""
    before = set(sys.modules)
    sys.path.insert(0, str(INPUTS / case))
    try:
        yield importlib.import_module("study")
    finally:
        sys.path.pop(0)
        for name in set(sys.modules) - before:
            if name in {"study", "slab", "published"}:
                del sys.modules[name]


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def a_shot(end: str, depth: float = 0.0, largest: float = 0.02) -> Values:
    return {
        "end": end,
        "place": (1.0, 2.0, depth),
        "drift": 0.01,
        "largest": largest,
        "mismatch": 0.03,
        "steps": 300,
    }


def test_shots_count_up_to_the_first_group_that_is_not_done(tmp_path: Path) -> None:
    with study_of("w_he_implantation") as study:
        names = [task.name for task in study.plan("small") if task.name.startswith("force-20eV")]
        found = {
            names[0]: {"shots": [a_shot("reflected")] * 3 + [a_shot("stopped", -6.0)]},
            names[1]: {"shots": [a_shot("stopped", -8.0), *[a_shot("reflected")] * 2]},
            names[3]: {"shots": [a_shot("reflected")] * 4},  # done before names[2]
        }
        outcome: Outcome = study.analyse(found, tmp_path_of(tmp_path, "small"))
    (row,) = rows_of(outcome.tables[0])
    assert row["shots"] == 7
    assert row["R"] == pytest.approx(5 / 7)
    assert row["mean depth (Å)"].value == pytest.approx(-7.0)
    (ends,) = rows_of(outcome.tables[1])
    assert ends["at the end (eV)"] is None  # no energy belongs to mixed forces
    assert ends["against the work (eV)"] == 0.03
    assert (tmp_path / "small" / "implantation.png").stat().st_size > 10_000


def tmp_path_of(folder: Path, size: str) -> Path:
    made = folder / size
    made.mkdir()
    return made


def test_shots_that_never_end_or_pass_are_told(tmp_path: Path) -> None:
    with study_of("w_he_implantation") as study:
        found = {"all-cheap-80eV-01": {"shots": [a_shot("undecided"), a_shot("passed")]}}
        outcome = study.analyse(found, tmp_path_of(tmp_path, "small"))
    assert rows_of(outcome.tables[0])[0]["R"] == 0.0
    assert any("never ended" in text for text in outcome.remarks)
    assert any("too thin" in text for text in outcome.remarks)


def test_energy_that_is_not_conserved_is_told(tmp_path: Path) -> None:
    with study_of("w_he_implantation") as study:
        found = {"all-cheap-20eV-01": {"shots": [a_shot("reflected", largest=0.25)]}}
        outcome = study.analyse(found, tmp_path_of(tmp_path, "small"))
    (remark,) = outcome.remarks
    assert "error reached 0.25 eV, more than 1 %" in remark


def test_a_shot_starts_in_the_same_way_in_all_arms(tmp_path: Path) -> None:
    with study_of("w_he_implantation") as study:
        cold = study.cold_slab((3, 3, 2), helium=True)
        slab = cold.positions[:-1]
        hot = [(slab + 0.1 * n, np.full_like(slab, 1e-3 * n)) for n in range(3)]
        one, same, faster = (study.shot(cold, hot, 4, e, {}) for e in (20.0, 20.0, 80.0))
    assert np.array_equal(one.start.positions, same.start.positions)
    assert np.array_equal(one.start.positions, faster.start.positions)
    assert np.array_equal(one.start.positions[:-1], slab + 0.1)  # the second of three
    assert faster.velocities[-1, 2] == pytest.approx(2.0 * one.velocities[-1, 2])
    above = one.start.positions[-1, 2] - one.settings.top
    assert above == pytest.approx(5.0)
    assert one.settings.top - one.settings.bottom == pytest.approx(3 * 3.1776 / 2)


def test_walks_of_a_known_coefficient_are_found_again(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    with study_of("w_he_diffusion") as study:
        size = study.SIZES["small"]
        interval = 1e-3 * size.timestep_fs * study.EVERY
        count = round((size.skipped_ps + size.run_ps) / interval)
        found, true = {}, {}
        for task in study.plan("small"):
            kelvin = task.parameters["temperature"]
            true[f"{kelvin:g}"] = d = 50.0 * np.exp(-0.2 / (8.617e-5 * kelvin))
            steps = random.normal(0.0, np.sqrt(2.0 * d * interval), (count, 3))
            found[task.name] = {"walk": np.cumsum(steps, axis=0).tolist()}
        outcome = study.analyse(found, tmp_path_of(tmp_path, "small"))
    for row in rows_of(outcome.tables[0]):
        estimate = row["D (Å²/ps)"]
        assert abs(estimate.value - true[row["T (K)"]]) < 4.5 * estimate.error
        assert estimate.error < 0.5 * estimate.value
    for row in rows_of(outcome.tables[1]):
        assert abs(row["E (eV)"].value - 0.2) < 4.5 * row["E (eV)"].error
    assert (tmp_path / "small" / "diffusion.png").stat().st_size > 10_000
