"""Structures from files: which frames are taken, how they are divided, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon import CONSTANT, crystal, order_in
from ase import Atoms
from ase.io import write

from mixserver.distill.given import given_structures
from mixserver.distill.reading import load_order, parse_recipe
from mixserver.errors import ConfigError


def _atoms(seed: int, atoms: int = 32, symbol: str = "Ar") -> Atoms:
    frame = crystal(2)
    moved = frame.positions + np.random.default_rng(seed).normal(0.0, 0.2, frame.positions.shape)
    made = Atoms(f"{symbol}32", moved, cell=frame.cell, pbc=True)
    return made[:atoms]


def test_every_frame_of_every_file_is_taken_in_order(tmp_path: Path) -> None:
    frames = [_atoms(seed, 30 + seed) for seed in range(3)]
    write(tmp_path / "a.xyz", frames[:2], format="extxyz")
    write(tmp_path / "b.vasp", frames[2], format="vasp")
    found = given_structures([tmp_path / "a.xyz", tmp_path / "b.vasp"], 24, ("Ar",), 3, 1)
    assert [s.name for s in found] == ["given-000", "given-001", "given-002"]
    assert {s.kind for s in found} == {"given"}
    assert {s.temperature for s in found} == {None}
    assert {s.groups for s in found} == {3}
    for structure, atoms in zip(found, frames, strict=True):
        atoms.wrap(eps=0.0)
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-6)
        np.testing.assert_allclose(structure.cell, 2 * CONSTANT * np.eye(3), atol=1e-9)
        assert set(structure.numbers.tolist()) == {18}


def test_of_many_frames_some_are_chosen_evenly(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", [_atoms(seed, 11 + seed) for seed in range(21)], format="extxyz")
    found = given_structures([tmp_path / "a.xyz"], 5, ("Ar",), 4, 1)
    assert [len(s) for s in found] == [11, 16, 21, 26, 31]
    again = given_structures([tmp_path / "a.xyz"], 5, ("Ar",), 4, 1)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.group, other.group)


def test_what_cannot_be_a_soft_structure_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.xyz"
    write(other, [_atoms(0), _atoms(1, symbol="Ne")], format="extxyz")
    with pytest.raises(ConfigError, match=r"frame 1 of .*other.xyz has Ne, and the potential is"):
        given_structures([other], 24, ("Ar",), 1, 1)
    loose = _atoms(0)
    loose.pbc = (True, True, False)
    write(tmp_path / "loose.xyz", loose, format="extxyz")
    with pytest.raises(ConfigError, match=r"frame 0 of .*loose.xyz does not repeat"):
        given_structures([tmp_path / "loose.xyz"], 24, ("Ar",), 1, 1)
    (tmp_path / "bad.xyz").write_text("3\nnothing\n")
    with pytest.raises(ConfigError, match=r"bad.xyz cannot be read"):
        given_structures([tmp_path / "bad.xyz"], 24, ("Ar",), 1, 1)


def test_a_recipe_says_which_file_is_missing(tmp_path: Path) -> None:
    order_in(tmp_path)
    recipe = (tmp_path / "distill.toml").read_text()
    (tmp_path / "distill.toml").write_text(f'{recipe}[given]\nfiles = ["run.xyz"]\n')
    with pytest.raises(ConfigError, match=r"given.files names .*run.xyz, which does not exist"):
        load_order(tmp_path)
    write(tmp_path / "run.xyz", _atoms(0), format="extxyz")
    assert load_order(tmp_path).given == (tmp_path / "run.xyz",)
    with pytest.raises(ConfigError, match=r"given.most = 0 must be at least 1"):
        parse_recipe(f"{recipe}[given]\nmost = 0\n")
