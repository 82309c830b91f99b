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

from mixserver.analysis.checks.bulk_match import check_bulk_match
from mixserver.analysis.checks.findings import Finding
from mixserver.config import Case
from mixserver.core.frame import Frame
from mixserver.server.build import Parts
from mixserver.wire.worker import Role

ROLES: tuple[Role, ...] = ("cheap", "expensive")
LATTICE = 5.23
"""Å, near what both models have."""


async def _found(
    folder: Path, start: Frame, *, mixing: str = "", cheap: dict[str, float] = CHEAP
) -> dict[str, Finding]:
    async with prepared_case(start, mixing=mixing, cheap=cheap) as setup:
        case = Case(folder, folder / "mix.toml", setup.config)
        parts = SimpleNamespace(start=start, dispatcher=setup.dispatcher)
        cards = [await setup.dispatcher.card(role) for role in ROLES]
        found = await check_bulk_match(case, cast(Parts, parts), cards)
    assert len({finding.what for finding in found}) == len(found)
    return {finding.what: finding for finding in found}


def _levels(found: dict[str, Finding], names: Sequence[str]) -> list[str]:
    return [found[f"bulk {name}"].level for name in names]


async def test_equal_models_match(tmp_path: Path) -> None:
    found = await _found(tmp_path, fcc(4, LATTICE, rattle=0.05), cheap=EXPENSIVE)
    assert {finding.level for finding in found.values()} == {"ok"}
    names = ["lattice", "elastic", "forces", "energy"]
    assert list(found) == ["bulk", *(f"bulk {name}" for name in names), "pressure"]
    assert (
        "a primitive cell of 1 atom, fcc lattice, a = 5.23 Å, describes 100.0"
        in found["bulk"].message
    )
    for name in names:
        assert found[f"bulk {name}"].figure == pytest.approx(0.0, abs=1e-8)
    assert "energy offsets remove it" in found["bulk energy"].message


async def test_differences_are_reported_with_size_and_cure(tmp_path: Path) -> None:
    longer = EXPENSIVE | {"sigma": 1.01 * EXPENSIVE["sigma"], "cutoff": 1.01 * EXPENSIVE["cutoff"]}
    found = await _found(tmp_path, fcc(4, LATTICE), cheap=longer)
    assert _levels(found, ["lattice", "elastic", "forces", "energy"])[:2] == ["warning", "ok"]
    message = found["bulk lattice"].message
    assert found["bulk lattice"].figure == pytest.approx(0.01, rel=0.01)
    assert "strained by +1 % against the expensive one" in message
    assert "stretched by" in message
    assert "mixserver distill" in message

    shorter = EXPENSIVE | {"sigma": 0.99 * EXPENSIVE["sigma"], "cutoff": 0.99 * EXPENSIVE["cutoff"]}
    found = await _found(tmp_path, fcc(4, LATTICE), cheap=shorter)
    assert "compressed by" in found["bulk lattice"].message

    stiffer = EXPENSIVE | {"epsilon": 1.3 * EXPENSIVE["epsilon"]}
    found = await _found(tmp_path, fcc(4, LATTICE), cheap=stiffer)
    assert _levels(found, ["lattice", "elastic", "forces"]) == ["ok", "warning", "warning"]
    assert "stiffer by +30 % for the strain" in found["bulk elastic"].message
    assert found["bulk elastic"].figure == pytest.approx(0.3, abs=2e-3)
    assert "30 % of their own rms" in found["bulk forces"].message


async def test_the_strain_of_the_structure_is_reported(tmp_path: Path) -> None:
    start = fcc(4, LATTICE, rattle=0.0)
    found = await _found(tmp_path, start, cheap=EXPENSIVE)
    rest = found["bulk lattice"].message.split("a = ")[1].split(" Å")[0]
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
    assert "cell.xyz: 1 atom, from mixing.bulk" in found["bulk"].message
    assert len(found) == 5
    assert "the structure's own" not in found["bulk lattice"].message


async def test_a_strained_structure_is_reported(tmp_path: Path) -> None:
    start = fcc(4, 1.03 * LATTICE)
    found = await _found(tmp_path, start, cheap=EXPENSIVE)
    assert found["bulk lattice"].level == "warning"
    assert "If the structure is not meant to be strained" in found["bulk lattice"].message
    assert found["bulk elastic"].level == found["bulk forces"].level == "ok"


def _input(folder: Path, mode: str) -> None:
    barostat = "<barostat mode='isotropic'/>" if mode == "npt" else ""
    (folder / "input.xml").write_text(
        "<simulation><total_steps> 10 </total_steps>"
        "<ffsocket name='mix' mode='unix'><address> nobody </address></ffsocket><system>"
        "<initialize nbeads='1'><file mode='xyz'> init.xyz </file></initialize>"
        "<forces><force forcefield='mix'/></forces>"
        "<ensemble><temperature units='kelvin'> 300 </temperature></ensemble>"
        f"<motion mode='dynamics'><dynamics mode='{mode}'>{barostat}"
        "<timestep units='femtosecond'> 1.0 </timestep><thermostat mode='langevin'/>"
        "</dynamics></motion></system></simulation>"
    )


@pytest.mark.parametrize(
    ("mode", "strain", "level"),
    [
        ("nvt", -0.004, "warning"),
        ("nvt", 0.012, "warning"),
        ("nvt", 0.001, "ok"),  # as thermal expansion would have it
        ("npt", -0.004, "ok"),
    ],
)
async def test_a_start_under_pressure_is_told(
    tmp_path: Path, mode: str, strain: float, level: str
) -> None:
    rest = 5.23882  # Å, of the expensive model
    _input(tmp_path, mode)
    found = await _found(tmp_path, fcc(4, rest * (1.0 + strain), rattle=0.0), cheap=EXPENSIVE)
    pressure = found["pressure"]
    c11, c12 = _cubic(found)
    bulk = (c11 + 2.0 * c12) / 3.0
    assert pressure.figure == pytest.approx(-3.0 * bulk * strain, rel=0.15)
    assert pressure.level == level
    assert ("NVT keeps it so" in pressure.message) == (level == "warning")


def _cubic(found: dict[str, Finding]) -> list[float]:
    """C11 and C12 of the expensive model."""
    message = found["bulk elastic"].message
    return [float(message.split(f"{name} ")[1].split(" and")[0]) for name in ("C11", "C12")]


async def test_of_a_large_named_bulk_the_smallest_cell_is_taken(tmp_path: Path) -> None:
    start = fcc(4, LATTICE)
    write(tmp_path / "big.xyz", bulk("Si", "fcc", a=LATTICE, cubic=True) * (4, 4, 4))
    found = await _found(tmp_path, start, mixing='bulk = "big.xyz"', cheap=EXPENSIVE)
    assert "256 atoms, from mixing.bulk; primitive cell of 1 atom" in found["bulk"].message
    assert len(found) == 5


@pytest.mark.parametrize(
    ("atoms", "said"),
    [
        (None, "does not exist"),
        (Atoms("Si", cell=[4.0, 4.0, 30.0], pbc=True), "no bulk crystal"),
        (Atoms("Si", cell=[4.0, 4.0, 4.0], pbc=[True, True, False]), "repeats along all three"),
        (
            Atoms("Ar80", np.random.default_rng(1).uniform(0, 13, (80, 3)), cell=[13.0] * 3, pbc=1),
            "80 atoms are too many",
        ),
    ],
    ids=["missing", "slab", "open", "glass"],
)
async def test_a_named_bulk_that_is_not_a_crystal_is_an_error(
    tmp_path: Path, atoms: Atoms | None, said: str
) -> None:
    if atoms is not None:
        write(tmp_path / "bulk.xyz", atoms, format="extxyz")
    found = await _found(tmp_path, fcc(4, LATTICE), mixing='bulk = "bulk.xyz"')
    assert list(found) == ["bulk"]
    assert found["bulk"].level == "error"
    assert "mixing.bulk = 'bulk.xyz'" in found["bulk"].message
    assert said in found["bulk"].message


async def test_a_model_that_does_not_hold_the_crystal_costs_the_comparison_only(
    tmp_path: Path,
) -> None:
    write(tmp_path / "loose.xyz", bulk("Si", "fcc", a=5.9), format="extxyz")
    found = await _found(tmp_path, fcc(4, LATTICE), mixing='bulk = "loose.xyz"')
    assert [finding.level for finding in found.values()] == ["ok", "warning"]
    assert "the models were not compared in this cell: the" in found["bulk match"].message
