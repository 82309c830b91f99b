"""What defines a mixed energy, written down and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import frame_of, silicon
from hypothesis import given
from hypothesis import strategies as st

from mixserver.config import AtomSeeds, CriterionSeeds
from mixserver.config import Region as RegionTable
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy_offsets import EnergyOffset
from mixserver.mixing.energy_reference import (
    EnergyReference,
    read_energy_reference,
    settings_digest,
    stored_loads,
    structure_digest,
)

FRAME = silicon(1)
ZERO = EnergyOffset(value=-160.1, spread=0.05, atoms=33, bulk=True)


def _loads(seed: int = 0) -> DeadLoads:
    rng = np.random.default_rng(seed)
    want = rng.normal(size=(8, 3)) * 10.0 ** rng.integers(-9, 3, (8, 1))
    want[rng.integers(8)] = 0.0
    return DeadLoads.between(FRAME, np.zeros((8, 3)), want)


def _state(loads: DeadLoads | None = None) -> EnergyReference:
    return EnergyReference(
        atoms=8,
        settings="abc",
        structure=structure_digest(FRAME),
        zeros={"Si": ZERO},
        loads=None if loads is None else stored_loads(loads),
    )


@given(st.integers(0, 2**32 - 1), st.floats(allow_nan=False, allow_infinity=False))
def test_it_is_read_as_it_was_written_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, value: float
) -> None:
    file = tmp_path_factory.mktemp("state") / "mixing.json"
    loads = _loads(seed)
    zeros = {"Si": EnergyOffset(value, 0.5, 3, bulk=False)}
    state = EnergyReference(
        atoms=8, settings="s", structure="t", zeros=zeros, loads=stored_loads(loads)
    )
    state.write(file)
    read = read_energy_reference(file, FRAME.topology)
    assert read == state
    again = read.dead_loads
    assert again is not None
    np.testing.assert_array_equal(again.atoms, loads.atoms)
    np.testing.assert_array_equal(again.forces, loads.forces)
    np.testing.assert_array_equal(again.places, loads.places)
    np.testing.assert_array_equal(again.cell, loads.cell)
    there = frame_of(FRAME.positions + 0.1 * np.sin(np.arange(24.0)).reshape(8, 3), FRAME.cell)
    assert again.at(there).energy == loads.at(there).energy


@pytest.mark.parametrize("loads", [None, DeadLoads.between(FRAME, FRAME.cell[:0], FRAME.cell[:0])])
def test_without_loads_it_is_read_back_too(tmp_path: Path, loads: DeadLoads | None) -> None:
    file = tmp_path / "mixing.json"
    _state(loads).write(file)
    read = read_energy_reference(file, FRAME.topology)
    assert read == _state(loads)
    again = read.dead_loads
    assert again is None if loads is None else again is not None and not len(again.atoms)


def test_an_older_file_without_loads_still_fits(tmp_path: Path) -> None:
    file = tmp_path / "mixing.json"
    older = {**_as_dict(), "version": 1, "loads": None}
    file.write_text(json.dumps(older))
    assert read_energy_reference(file, FRAME.topology).zeros["Si"].value == 1.0


def test_zeros_are_told_to_every_atom() -> None:
    numbers = np.array([14, 6, 14, 6], np.int32)
    state = EnergyReference(
        atoms=4,
        settings="",
        structure="",
        zeros={"Si": ZERO, "C": EnergyOffset(2.0, 0.0, 0, bulk=True), "W": ZERO},
    )
    np.testing.assert_array_equal(state.aligned(Topology(numbers)), [-160.1, 2.0, -160.1, 2.0])
    with pytest.raises(ConfigError, match=r"zero of energy of He is not known.*mixing\.zeros"):
        state.aligned(Topology(np.array([14, 2], np.int32)))


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    """A run's folder is full of links to the case's files."""
    kept, file = tmp_path / "case.json", tmp_path / "mixing.json"
    kept.write_text("mine")
    file.symlink_to(kept)
    _state().write(file)
    assert kept.read_text() == "mine"
    assert not file.is_symlink()
    assert read_energy_reference(file, FRAME.topology) == _state()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case.json", "mixing.json"]


def _spoil(spoilt: dict[str, Any], loads: dict[str, Any] | None = None) -> str:
    state = json.loads(json.dumps(_as_dict()))
    state.update(spoilt)
    if loads is not None:
        state["loads"].update(loads)
    return json.dumps(state)


def _as_dict() -> dict[str, Any]:
    loads = {
        "atoms": [1, 4],
        "forces": [[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]],
        "places": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
        "cell": [[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]],
    }
    zero = {"value": 1.0, "spread": 0.0, "atoms": 3, "bulk": True}
    return {
        "version": 2,
        "atoms": 8,
        "settings": "s",
        "structure": "t",
        "zeros": {"Si": zero},
        "loads": loads,
    }


def test_the_sound_file_of_these_tests_is_sound(tmp_path: Path) -> None:
    file = tmp_path / "mixing.json"
    file.write_text(_spoil({}))
    assert read_energy_reference(file, FRAME.topology).dead_loads is not None


ONE = [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no state of a mixed energy"),
        ("nonsense", "no state of a mixed energy"),
        ("[]", "no state of a mixed energy"),
        ("\xff\xfe", "no state of a mixed energy"),
        ('{"0": {"evaluations": 3}}', "no state of a mixed energy"),
        (json.dumps(_as_dict())[:-20], "no state of a mixed energy"),
        (_spoil({"version": 3}), "version 3, expected 2"),
        (_spoil({"version": 1}), "version 1, expected 2.*could not turn with it; delete .*again"),
        (_spoil({"unheard": 1}), "unheard"),
        (_spoil({"zeros": {"Si": 3.0}}), r"no state .*zeros"),
        (_spoil({"zeros": {"Qq": _as_dict()["zeros"]["Si"]}}), "'Qq' is no element symbol"),
        (_spoil({"atoms": 9}), "is of 9 atoms, the structure has 8"),
        (_spoil({}, {"atoms": [1, 8]}), "some of the 8 atoms"),
        (_spoil({}, {"atoms": [-1, 4]}), "no state .*loads"),
        (_spoil({}, {"atoms": [1, 10**40]}), "no state .*loads"),
        (_spoil({}, {"atoms": [4, 4]}), "one each"),
        (_spoil({}, {"atoms": [4, 1]}), "ascending"),
        (_spoil({}, {"atoms": [1, 4, 5]}), "3 atoms need as many forces and places"),
        (_spoil({}, {"forces": [ONE]}), "as many forces and places"),
        (_spoil({}, {"forces": [ONE, [0.0, 0.0]]}), "no state .*loads"),
        (_spoil({}, {"forces": [[0.0] * 2] * 3}), "no state .*loads"),
        (_spoil({}, {"forces": [ONE, [0.0, 0.0, None]]}), "no state .*loads"),
        (_spoil({}, {"places": [ONE, ["1", 0, 0]]}), "no state .*loads"),
        (_spoil({}, {"forces": [[0.5, 0, 0], [0.5, 0, 0]]}), "add up to zero"),
        (_spoil({}, {"forces": [[1, 0, 0], [-1, 0, 1e999]]}), "no state"),
    ],
)
def test_what_is_no_state_of_these_atoms_is_refused_with_the_cure(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "mixing.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"(?s){words}") as caught:
        read_energy_reference(file, FRAME.topology)
    assert f"delete {file}" in str(caught.value)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        read_energy_reference(tmp_path / "none.json", FRAME.topology)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_energy_reference(tmp_path, FRAME.topology)


def test_digests_tell_structures_apart_but_not_their_rounding() -> None:
    moved = frame_of(FRAME.positions + 2e-9, FRAME.cell)
    there = frame_of(FRAME.positions + 1e-4, FRAME.cell)
    larger = frame_of(FRAME.positions, FRAME.cell * 1.001)
    digest = structure_digest(FRAME)
    assert structure_digest(there) != digest
    assert structure_digest(larger) != digest
    zero, minus = (frame_of(np.full((1, 3), x), FRAME.cell) for x in (1e-9, -1e-9))
    assert structure_digest(zero) == structure_digest(minus)
    whole = frame_of(np.round(FRAME.positions, 3), FRAME.cell)
    assert structure_digest(whole) == structure_digest(frame_of(whole.positions + 1e-9, whole.cell))
    assert structure_digest(moved) != structure_digest(there)


def test_digests_tell_settings_apart() -> None:
    tables = [
        RegionTable(AtomSeeds((0,)), 4.0, 3.0),
        RegionTable(AtomSeeds((0, 1)), 4.0, 3.0),
        RegionTable(AtomSeeds((0,)), 4.0, 3.5),
        RegionTable(AtomSeeds((0,)), 4.0, 3.0, follow=True),
        RegionTable(CriterionSeeds("x"), 4.0, 3.0),
        RegionTable(CriterionSeeds("x", low=2.0), 4.0, 3.0),
        RegionTable(CriterionSeeds("x", high=2.0), 4.0, 3.0),
    ]
    digests = {settings_digest(("a", "b"), [14], table) for table in tables}
    digests |= {settings_digest(("b", "a"), [14], tables[0])}
    digests |= {settings_digest(("a", "b"), [6], tables[0])}
    assert len(digests) == len(tables) + 2
    assert settings_digest(("a", "b"), [14], RegionTable(AtomSeeds((0,)), 4.0, 3.0)) in digests
