"""A structure with its atoms in the order of another file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from cells import silicon
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mixserver.analysis.reorder import reorder_case, reordered
from mixserver.cli import main
from mixserver.config import load_case
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology

CRYSTAL = silicon(2, rattle=0.02)
NUMBERS = np.where(np.arange(64) % 8 < 4, 14, 6).astype(np.int32)
REFERENCE = Topology(NUMBERS).frame(CRYSTAL.positions, CRYSTAL.cell)
TOML = """
[upstream]
address = "unix:nobody"
structure = "reference.extxyz"
[region]
core_radius = 3.0
blend_width = 3.0
seeds = SEEDS
[models.cheap]
[models.expensive]
"""


def _atoms(frame: Frame) -> Atoms:
    return Atoms(frame.topology.numbers, frame.positions, cell=frame.cell, pbc=True)


@given(st.integers(0, 2**32 - 1))
def test_any_order_is_found_in_any_orientation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(64), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    positions = (REFERENCE.positions + rng.normal(0.0, 0.05, (64, 3)))[order] @ turn
    theirs = Topology(NUMBERS[order]).frame(positions, REFERENCE.cell @ turn)
    found, largest = reordered(REFERENCE, theirs)
    np.testing.assert_array_equal(found, order)
    assert largest < 0.5


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        ('{ kind = "atoms", indices = [3, 0] }', "region.seeds.indices = [1, 63]"),
        (
            '{ kind = "criterion", compute = "coord/atom cutoff 2.9", initial = [2] }',
            "region.seeds.initial = [0]",
        ),
        ('{ kind = "species", elements = ["C"] }', "upstream.structure"),
    ],
)
def test_the_file_and_what_counts_atoms_are_in_the_new_order(
    tmp_path: Path, seeds: str, line: str
) -> None:
    order = np.r_[2, 3, np.setdiff1d(np.arange(64), [0, 2, 3]), 0]
    write(tmp_path / "reference.extxyz", _atoms(REFERENCE))
    write(tmp_path / "like.extxyz", _atoms(REFERENCE)[order])
    (tmp_path / "mix.toml").write_text(TOML.replace("SEEDS", seeds))
    out = tmp_path / "ordered.extxyz"
    done = CliRunner().invoke(
        main, ["reorder", str(tmp_path), "-o", str(out), "--like", str(tmp_path / "like.extxyz")]
    )
    assert done.exit_code == 0, done.output
    assert line in done.output
    written = read(out)
    assert isinstance(written, Atoms)
    np.testing.assert_array_equal(written.numbers, NUMBERS[order])
    np.testing.assert_allclose(written.positions, REFERENCE.positions[order], atol=1e-7)


def test_the_same_order_writes_nothing(tmp_path: Path) -> None:
    for name in ("reference", "like"):
        write(tmp_path / f"{name}.extxyz", _atoms(REFERENCE))
    (tmp_path / "mix.toml").write_text(
        TOML.replace("SEEDS", '{ kind = "atoms", indices = [3, 0] }')
    )
    out = tmp_path / "ordered.extxyz"
    done = CliRunner().invoke(
        main, ["reorder", str(tmp_path), "-o", str(out), "--like", str(tmp_path / "like.extxyz")]
    )
    assert done.exit_code == 0, done.output
    assert "in i-PI's order already" in done.output
    assert not out.exists()


def test_without_a_file_in_the_input_one_must_be_named(tmp_path: Path) -> None:
    write(tmp_path / "reference.extxyz", _atoms(REFERENCE))
    (tmp_path / "mix.toml").write_text(TOML.replace("SEEDS", '{ kind = "atoms", indices = [0] }'))
    with pytest.raises(ConfigError, match=r"input\.xml"):
        reorder_case(load_case(tmp_path))


def test_another_structure_is_refused() -> None:
    rng = np.random.default_rng(1)
    liquid = REFERENCE.topology.frame(rng.random((64, 3)) @ REFERENCE.cell, REFERENCE.cell)
    with pytest.raises(ConfigError, match=r"atoms are on no site .* another structure"):
        reordered(REFERENCE, liquid)
    fewer = Topology(NUMBERS[1:]).frame(REFERENCE.positions[1:], REFERENCE.cell)
    with pytest.raises(ConfigError, match="63 atoms, the structure has 64"):
        reordered(REFERENCE, fewer)
    other = Topology(np.full(64, 14, np.int32)).frame(REFERENCE.positions, REFERENCE.cell)
    with pytest.raises(ConfigError, match="not those of the structure"):
        reordered(REFERENCE, other)
