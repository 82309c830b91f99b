"""The study of a self-interstitial in iron, on trajectories whose answer is known."""

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
from ase import Atoms
from ase.io import write

from mixserver.core.errors import ConfigError
from mixserver.studies.table import Table

FOLDER = Path(__file__).resolve().parents[2] / "inputs/fe_dumbbell"
MODULES = ("study", "findings", "interstitial")


@contextmanager
def study_modules() -> Iterator[list[ModuleType]]:
    """study.py and the modules beside it."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield [importlib.import_module(name) for name in MODULES]
    finally:
        sys.path.pop(0)
        for name in MODULES:
            sys.modules.pop(name, None)


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_walks_of_a_known_coefficient_are_found_again(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    folder = tmp_path / "small"
    folder.mkdir()
    with study_modules() as (study, findings, _):
        mixed = {kind.arm.label for kind in findings.KINDS if kind.mixed}
        interval = 1e-3 * study.SIZES["small"].timestep_fs * study.EVERY
        found, true = {}, {}
        for task in study.plan("small"):
            wanted = task.parameters
            kelvin = wanted["temperature"]
            true[f"{kelvin:g}"] = d = 30.0 * np.exp(-0.2 / (8.617e-5 * kelvin))
            count = round((1e-3 * wanted["timestep_fs"] * wanted["steps"] - 1.5) / interval)
            steps = random.normal(0.0, np.sqrt(2.0 * d * interval), (count, 3))
            values = {
                "walk": np.cumsum(steps, axis=0).tolist(),
                "axes": {"110": 0.8, "111": 0.2, "100": 0.0},
                "turns": 3,
                "kelvin": {"all": random.normal(kelvin, 30.0, count).tolist()},
            }
            if wanted["arm"] in mixed:
                values["region"] = {
                    "centre": [0.5, 1.5, None],
                    "seed": [1.0, 1.2, None],
                    "lambda": [1.0, 1.0, 0.25],
                    "core": [4.0, 3.0, 0.0],
                }
                for shell in ("core", "blend", "bulk"):
                    values["kelvin"][shell] = [kelvin] * 40
            found[task.name] = values
        outcome = study.analyse(found, folder)
    tables = {table.title: rows_of(table) for table in outcome.tables}
    assert len(tables["Diffusion coefficients"]) == 12
    for row in tables["Diffusion coefficients"]:
        estimate = row["D (Å²/ps)"]
        assert abs(estimate.value - true[row["T (K)"]]) < 4.5 * estimate.error
        assert estimate.error < 0.4 * estimate.value
    for row in tables["Arrhenius lines"]:
        assert abs(row["E (eV)"].value - 0.2) < 4.5 * row["E (eV)"].error
    (first, *_) = tables["Whether the region followed"]
    assert first["frames"] == 18
    assert first["without seeds"] == 6
    assert first["frames with the interstitial outside the core"] == 6
    assert {row["turns"] for row in tables["How it moved"]} == {18}
    assert len(tables["Temperatures"]) == 12
    for name in outcome.figures:
        assert (folder / name).stat().st_size > 10_000


@pytest.mark.parametrize(("cells", "kelvin"), [(5, 800.0), (7, 1100.0)])
def test_the_dumbbell_starts_relaxed_in_any_size(cells: int, kelvin: float) -> None:
    with study_modules() as (_, _, interstitial):
        frame, pair = interstitial.dumbbell(cells, kelvin)
        a = interstitial.LATTICE * (1.0 + interstitial.EXPANSION * kelvin)
        with pytest.raises(ConfigError, match="5 cells along each edge or more, not 4"):
            interstitial.dumbbell(4, kelvin)
    assert len(frame) == 2 * cells**3 + 1
    atoms = Atoms(frame.topology.numbers, frame.positions, cell=frame.cell, pbc=True)
    distances = atoms.get_all_distances(mic=True) + 9.0 * np.eye(len(atoms))
    assert np.flatnonzero(distances.min(axis=1) < 0.748 * a).tolist() == pair.tolist()
    assert distances.min() == pytest.approx(0.7387 * a, abs=1e-3)


def test_where_the_region_is_seen_from_the_interstitial(tmp_path: Path) -> None:
    with study_modules() as (_, _, interstitial):
        sites, lengths = interstitial.lattice(5, 1000.0)
        start, pair = interstitial.dumbbell(5, 1000.0)
        centre = start.positions[pair].mean(axis=0)
        apart = float(np.linalg.norm(np.diff(start.positions[pair], axis=0)))
        away = start.positions - centre
        distances = np.linalg.norm(away - lengths * np.rint(away / lengths), axis=1)
        for seeds, inside in (([*pair], 3.5), ([], 0.0)):
            atoms = Atoms("Fe" * len(away), start.positions, cell=lengths, pbc=True)
            atoms.arrays["lambda"] = np.where(distances < inside, 1.0, 0.0)
            atoms.arrays["seed"] = np.isin(np.arange(len(away)), seeds).astype(int)
            write(tmp_path / "regions.xyz", atoms, format="extxyz", append=True)
        found = interstitial.followed([tmp_path], sites, lengths)
        assert interstitial.shares(np.array([[0.1, 1.0, 1.1], [1.0, 1.0, 0.9]])) == {
            "110": 0.5,
            "111": 0.5,
            "100": 0.0,
        }
        turned = np.repeat([[1.0, 1.0, 0.1], [1.0, 0.1, -1.0]], 25, axis=0)
        assert interstitial.turns(turned) == 1
    assert found["centre"] == [pytest.approx(0.0, abs=1e-3), np.inf]
    assert found["seed"] == [pytest.approx(apart / 2.0, abs=1e-3), np.inf]
    assert found["lambda"] == [1.0, 0.0]
    assert found["core"][0] >= 3.5
    assert found["core"][1] < 1.1
