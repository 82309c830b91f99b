"""What `check` says of two models in the bulk: measured on models whose difference is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from cells import fcc
from in_process import CHEAP, EXPENSIVE, prepared_case

from mixserver.build import Parts
from mixserver.checks.findings import Finding
from mixserver.checks.match import check_match
from mixserver.config import Case
from mixserver.frame import Frame

LATTICE = 5.05
"""Å, near what both models have."""


async def _found(
    folder: Path, start: Frame, *, mixing: str = "", cheap: dict[str, float] = CHEAP
) -> dict[str, Finding]:
    async with prepared_case(start, mixing=mixing, cheap=cheap) as preparation:
        case = Case(folder, folder / "mix.toml", preparation.config)
        parts = SimpleNamespace(start=start, dispatcher=preparation.dispatcher)
        found = await check_match(case, cast(Parts, parts))
    assert len({finding.what for finding in found}) == len(found)
    return {finding.what: finding for finding in found}


def _levels(found: dict[str, Finding], names: Sequence[str]) -> list[str]:
    return [found[f"bulk {name}"].level for name in names]


async def test_equal_models_match(tmp_path: Path) -> None:
    found = await _found(tmp_path, fcc(4, LATTICE, rattle=0.05), cheap=EXPENSIVE)
    assert {finding.level for finding in found.values()} == {"ok"}
    assert list(found) == ["bulk", "bulk lattice", "bulk elastic", "bulk forces", "bulk energy"]
    assert "a cell of 1 atom repeats in the structure, FCC(a=5.05)" in found["bulk"].message
    for name in ("lattice", "elastic", "forces", "energy"):
        assert found[f"bulk {name}"].figure == pytest.approx(0.0, abs=1e-8)
    assert "zeros take it away" in found["bulk energy"].message


async def test_what_differs_is_told_with_its_size_and_its_cure(tmp_path: Path) -> None:
    longer = EXPENSIVE | {"sigma": 1.01 * EXPENSIVE["sigma"], "cutoff": 1.01 * EXPENSIVE["cutoff"]}
    found = await _found(tmp_path, fcc(4, LATTICE), cheap=longer)
    assert _levels(found, ["lattice", "elastic", "forces", "energy"])[:2] == ["warning", "ok"]
    message = found["bulk lattice"].message
    assert found["bulk lattice"].figure == pytest.approx(0.01, rel=0.01)
    assert "strained by +1 % against the expensive one" in message
    assert "pulled by" in message
    assert "mixserver distill" in message

    shorter = EXPENSIVE | {"sigma": 0.99 * EXPENSIVE["sigma"], "cutoff": 0.99 * EXPENSIVE["cutoff"]}
    found = await _found(tmp_path, fcc(4, LATTICE), cheap=shorter)
    assert "squeezed by" in found["bulk lattice"].message

    stiffer = EXPENSIVE | {"epsilon": 1.3 * EXPENSIVE["epsilon"]}
    found = await _found(tmp_path, fcc(4, LATTICE), cheap=stiffer)
    assert _levels(found, ["lattice", "elastic", "forces"]) == ["ok", "warning", "warning"]
    assert "at most +30 % apart" in found["bulk elastic"].message
    assert found["bulk elastic"].figure == pytest.approx(0.3, abs=2e-3)
    assert "30 % of themselves" in found["bulk forces"].message


async def test_the_strain_of_the_structure_itself_is_told(tmp_path: Path) -> None:
    start = fcc(4, LATTICE, rattle=0.0)
    found = await _found(tmp_path, start, cheap=EXPENSIVE)
    rest = found["bulk lattice"].message.split("FCC(a=")[1].split(")")[0]
    strain = 100.0 * (LATTICE / float(rest) - 1.0)
    told = found["bulk lattice"].message.split("the structure's own by ")[1].split(" %")[0]
    assert float(told) == pytest.approx(strain, abs=0.06)


async def test_a_named_bulk_is_taken(tmp_path: Path) -> None:
    gas = np.random.default_rng(0).uniform(0.0, 30.0, (60, 3))
    start = fcc(4, LATTICE, rattle=0.0)
    start = dataclasses.replace(start, cell=3.0 * start.cell)  # a crystal no more, but a drop
    lost = start.topology.frame(np.resize(gas, start.positions.shape), start.cell)
    found = await _found(tmp_path, lost)
    assert list(found) == ["bulk"]
    assert found["bulk"].level == "ok"
    assert "Name a bulk cell in mixing.bulk" in found["bulk"].message

    write(tmp_path / "cell.xyz", bulk("Si", "fcc", a=LATTICE), format="extxyz")
    found = await _found(tmp_path, lost, mixing='bulk = "cell.xyz"', cheap=EXPENSIVE)
    assert "cell.xyz: 1 atom, as mixing.bulk says" in found["bulk"].message
    assert len(found) == 5
    assert "the structure's own" not in found["bulk lattice"].message


async def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    start = fcc(4, LATTICE)
    found = await _found(tmp_path, start, mixing='bulk = "none.xyz"')
    assert found["bulk"].level == "error"
    assert "mixing.bulk: structure" in found["bulk"].message
    slab = Atoms("Si", cell=[4.0, 4.0, 30.0], pbc=True)
    write(tmp_path / "slab.xyz", slab, format="extxyz")
    async with prepared_case(start, mixing='bulk = "slab.xyz"') as preparation:
        case = Case(tmp_path, tmp_path / "mix.toml", preparation.config)
        parts = SimpleNamespace(start=start, dispatcher=preparation.dispatcher)
        listed = await check_match(case, cast(Parts, parts))
    assert [finding.level for finding in listed] == ["ok", "warning"]
    assert "the models were not compared: the" in listed[1].message
    assert "no bulk crystal" in listed[1].message
