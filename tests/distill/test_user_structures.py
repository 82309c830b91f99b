"""Structures from files: which frames are taken, how they are divided, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon import CONSTANT, crystal, project_in
from ase import Atoms
from ase.io import write
from structlog.testing import capture_logs

from mixserver.core.errors import ConfigError
from mixserver.distill.config.load import load_project, parse_recipe
from mixserver.distill.data.user_structures import read_user_frames, user_structures


def _atoms(seed: int, atoms: int = 32, symbol: str = "Ar") -> Atoms:
    frame = crystal(2)
    moved = frame.positions + np.random.default_rng(seed).normal(0.0, 0.2, frame.positions.shape)
    made = Atoms(f"{symbol}32", moved, cell=frame.cell, pbc=True)
    return made[:atoms]


def test_every_frame_of_every_file_is_taken_in_order(tmp_path: Path) -> None:
    frames = [_atoms(seed, 30 + seed) for seed in range(3)]
    write(tmp_path / "a.xyz", frames[:2], format="extxyz")
    write(tmp_path / "b.vasp", frames[2], format="vasp")
    read = read_user_frames([tmp_path / "a.xyz", tmp_path / "b.vasp"], 24, ("Ar",))
    found = user_structures(read, 3, 1)
    assert [s.name for s in found] == ["given-000", "given-001", "given-002"]
    assert {s.kind for s in found} == {"given"}
    assert {s.temperature for s in found} == {None}
    assert {s.groups for s in found} == {3}
    for structure, atoms in zip(found, frames, strict=True):
        atoms.wrap(eps=0.0)
        np.testing.assert_allclose(structure.positions, atoms.positions, atol=1e-6)
        np.testing.assert_allclose(structure.cell, 2 * CONSTANT * np.eye(3), atol=1e-9)
        assert set(structure.numbers.tolist()) == {18}


@pytest.mark.parametrize("name", ["a.xyz", "a.traj"])
def test_of_many_frames_some_are_chosen_evenly(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, [_atoms(seed, 11 + seed) for seed in range(21)])
    read = read_user_frames([tmp_path / name], 5)
    assert [len(one.frame) for one in read] == [11, 16, 21, 26, 31]
    assert read[1].where == f"frame 5 of {tmp_path / name}"
    found, again = user_structures(read, 4, 1), user_structures(read, 4, 1)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.group, other.group)


def test_only_chosen_frames_are_understood(tmp_path: Path) -> None:
    """Of a long file nothing else is kept: what is not chosen may even be wrong."""
    write(tmp_path / "a.xyz", [_atoms(seed) for seed in range(9)], format="extxyz")
    lines = (tmp_path / "a.xyz").read_text().splitlines()
    lines[34 + 2] = "Ar 0.0 nonsense 0.0"  # of the second frame
    (tmp_path / "a.xyz").write_text("\n".join(lines))
    assert len(read_user_frames([tmp_path / "a.xyz"], 3)) == 3
    with pytest.raises(ConfigError, match=r"given.files: .*a.xyz cannot be read"):
        read_user_frames([tmp_path / "a.xyz"], 9)


def test_xyz_of_ipi_is_read_frame_by_frame(tmp_path: Path) -> None:
    """With the cell in its comment, as `structure` takes it and as i-PI writes trajectories."""
    atoms = _atoms(3)
    edge = 2 * CONSTANT
    text = ""
    for shift in (0.0, 0.1):
        text += f"32\n# CELL(abcABC): {edge} {edge} {edge} 90 90 90 Step: 1 "
        text += "positions{angstrom} cell{angstrom}\n"
        text += "".join(f"Ar {x + shift} {y} {z}\n" for x, y, z in atoms.positions)
    (tmp_path / "pos.xyz").write_text(text)
    first, second = read_user_frames([tmp_path / "pos.xyz"], 24, ("Ar",))
    np.testing.assert_allclose(first.frame.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(second.frame.positions[:, 0], atoms.positions[:, 0] + 0.1)
    np.testing.assert_allclose(first.frame.cell, edge * np.eye(3), atol=1e-9)


def _refused(folder: Path, atoms: Atoms, words: str) -> None:
    write(folder / "one.xyz", atoms, format="extxyz")
    with pytest.raises(ConfigError, match=words):
        read_user_frames([folder / "one.xyz"], 24, ("Ar",))


def test_what_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.xyz"
    write(other, [_atoms(0), _atoms(1, symbol="Ne")], format="extxyz")
    with pytest.raises(ConfigError, match=r"frame 1 of .*other.xyz has Ne, but the potential has"):
        read_user_frames([other], 24, ("Ar",))
    loose = _atoms(0)
    loose.pbc = (True, True, False)
    _refused(tmp_path, loose, r"frame 0 of .*one.xyz is not periodic")
    gone = _atoms(0)
    gone.positions[3, 1] = np.nan
    _refused(tmp_path, gone, r"frame 0 of .*one.xyz has positions .* not finite")
    near = _atoms(0)
    near.positions[7] = near.positions[4] + [0.0, 0.6, 0.0]
    _refused(tmp_path, near, r"has atoms 4 and 7 only 0.60 Å apart")
    (tmp_path / "bad.xyz").write_text("3\nnothing\n")
    with pytest.raises(ConfigError, match=r"given.files: .*bad.xyz cannot be read"):
        read_user_frames([tmp_path / "bad.xyz"], 24, ("Ar",))
    (tmp_path / "none.xyz").write_text("")
    with pytest.raises(ConfigError, match=r"given.files: .*none.xyz has no atoms"):
        read_user_frames([tmp_path / "none.xyz"], 24, ("Ar",))


def test_nothing_is_both_fitted_and_tested_by(tmp_path: Path) -> None:
    """The same file twice, by whatever name, and the same frame in two files."""
    write(tmp_path / "a.xyz", [_atoms(0), _atoms(1)], format="extxyz")
    (tmp_path / "link.xyz").symlink_to(tmp_path / "a.xyz")
    with pytest.raises(ConfigError, match=r"given.files names .* twice"):
        read_user_frames([tmp_path / "a.xyz", tmp_path / "link.xyz"], 24)
    write(tmp_path / "b.xyz", [_atoms(1), _atoms(2)], format="extxyz")
    with capture_logs() as logs:
        found = read_user_frames([tmp_path / "a.xyz", tmp_path / "b.xyz"], 24)
    assert [one.where[:7] for one in found] == ["frame 0", "frame 1", "frame 1"]
    assert logs[0]["log_level"] == "warning"
    assert logs[0]["frame"] == f"frame 0 of {tmp_path / 'b.xyz'}"


def test_wrong_elements_are_said_at_reading(tmp_path: Path) -> None:
    project_in(tmp_path)
    write(tmp_path / "neon.xyz", _atoms(0, symbol="Ne"), format="extxyz")
    recipe = (tmp_path / "distill.toml").read_text()
    given = '[given]\nfiles = ["neon.xyz"]\n'
    (tmp_path / "distill.toml").write_text(f"{recipe}{given}")
    with pytest.raises(ConfigError, match=r"has Ne, but the potential has Ar"):
        load_project(tmp_path)
    (tmp_path / "distill.toml").write_text(f'{recipe}{given}[potential]\nelements = ["Ar", "Ne"]')
    assert load_project(tmp_path).elements == ("Ar", "Ne")
    (tmp_path / "distill.toml").write_text(f'{recipe}[potential]\nelements = ["Ar", "Ne"]')
    with pytest.raises(ConfigError, match=r"names Ne, but neither"):
        load_project(tmp_path)


def test_a_recipe_says_which_file_is_missing(tmp_path: Path) -> None:
    project_in(tmp_path)
    recipe = (tmp_path / "distill.toml").read_text()
    (tmp_path / "distill.toml").write_text(f'{recipe}[given]\nfiles = ["run.xyz"]\n')
    with pytest.raises(ConfigError, match=r"given.files names .*run.xyz, which does not exist"):
        load_project(tmp_path)
    write(tmp_path / "run.xyz", _atoms(0), format="extxyz")
    assert load_project(tmp_path).given == (tmp_path / "run.xyz",)
    with pytest.raises(ConfigError, match=r"given.most = 0 must be at least 1"):
        parse_recipe(f"{recipe}[given]\nmost = 0\n")
