"""Data and options that cannot be trained with are refused in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from mixserver_worker.training.structures import read_environments, read_labelled
from training_samples import SMALL, copper, job

from mixserver.core.errors import ConfigError
from mixserver.wire.training import Keys


def _nan(frames: list[Atoms]) -> None:
    frames[3].arrays["REF_forces"][1, 2] = math.nan


def _no_energy(frames: list[Atoms]) -> None:
    del frames[2].info["REF_energy"]


def _bad_stress(frames: list[Atoms]) -> None:
    frames[1].info["REF_stress"] = math.inf


def _huge(frames: list[Atoms]) -> None:
    frames[0].arrays["REF_forces"][0] = 1e5


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_nan, ["structure 3", "REF_forces", "finite"]),
        (_no_energy, ["structure 2", "no energy", r"\[keys\]"]),
        (_bad_stress, ["structure 1", "REF_stress", "finite"]),
        (_huge, ["structure 0", "1e"]),
    ],
)
def test_labels(tmp_path: Path, spoil: Callable[[list[Atoms]], None], words: list[str]) -> None:
    frames = copper(5)
    spoil(frames)
    write(tmp_path / "data.xyz", frames, format="extxyz")
    with pytest.raises(ConfigError, match=".*".join(words)):
        read_labelled([str(tmp_path / "data.xyz")], Keys())


def test_files(tmp_path: Path) -> None:
    (tmp_path / "words.xyz").write_text("no structure at all\n")
    for name, words in (("none.xyz", "does not exist"), ("words.xyz", "cannot be read")):
        with pytest.raises(ConfigError, match=words):
            read_labelled([str(tmp_path / name)], Keys())


def test_environments(tmp_path: Path) -> None:
    file = str(tmp_path / "bulk.xyz")
    (atoms,) = copper(1)
    write(file, atoms, format="extxyz")
    frames, masks = read_environments([file], "")
    assert len(frames) == 1
    assert masks[0].all()
    with pytest.raises(ConfigError, match="no per-atom array 'bulk'"):
        read_environments([file], "bulk")
    atoms.set_array("bulk", np.array([True, False, False, True]))
    atoms.pbc = (True, True, False)
    write(file, atoms, format="extxyz")
    assert read_environments([file], "bulk")[1][0].tolist() == [True, False, False, True]
    with pytest.raises(ConfigError, match=r"agreement\.mask"):
        read_environments([file], "")


@pytest.mark.mace
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"r_mox": 3.0}, "r_mox"),
        ({"seed": 3}, "both experts"),
        ({"lora": True}, "cannot use"),
        ({"model": "AtomicDipolesMACE"}, "site energies"),
        ({"ema": 3}, "true or false"),
        ({"loss": "dipole"}, "loss"),
    ],
)
def test_options(tmp_path: Path, option: dict[str, Any], words: str) -> None:
    from mixserver_worker.engines.mace.model import import_mace
    from mixserver_worker.training.mace_options import mace_arguments

    import_mace()
    with pytest.raises(ConfigError, match=words):
        mace_arguments(job(tmp_path), "small", {**SMALL, **option})
