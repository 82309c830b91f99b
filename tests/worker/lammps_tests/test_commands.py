"""Files of LAMMPS commands are read as LAMMPS users write them. Needs no LAMMPS."""

from __future__ import annotations

from pathlib import Path

import pytest
from mixserver_worker.engines.lammps.commands import read_commands

from mixserver.core.errors import ConfigError

SNAP = "pair_style snap\npair_coeff * * si.snapcoeff si.snapparam Si C\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "si.snapcoeff").write_text("coefficients")
    (tmp_path / "si.snapparam").write_text("parameters")
    return tmp_path


def written(folder: Path, text: str, name: str = "pot.in") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        (SNAP, ("Si", "C")),
        ("pair_style sw\npair_coeff * * a.sw &\n  C Si # the order of types\n", ("C", "Si")),
        ("pair_style zbl 3 4\nlabelmap atom 2 O 1 Si\npair_coeff 1 1 14 14\n", ("Si", "O")),
        (
            "pair_style hybrid/overlay sw tersoff\npair_coeff * * sw a.sw Si NULL\n"
            "pair_coeff * * tersoff b.tersoff NULL C\n",
            ("Si", "C"),
        ),
        ("pair_style meam\npair_coeff * * library.meam Si C sic.meam Si C\n", ("Si", "C")),
    ],
)
def test_elements_are_found(folder: Path, text: str, elements: tuple[str, ...]) -> None:
    assert read_commands(written(folder, text)).elements == elements


def test_given_elements_take_precedence(folder: Path) -> None:
    read = read_commands(
        written(folder, "pair_style zero 5\npair_coeff * *\n"), elements=["W", "He"]
    )
    assert read.elements == ("W", "He")
    assert read.numbers == (74, 2)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("pair_coeff * * x Si\n", "no pair_style"),
        ("units real\n" + SNAP, "needs units metal"),
        ("pair_style zero 5\npair_coeff * *\n", "labelmap atom 1 Si 2 C"),
        ("pair_style eam\npair_coeff 1 1 Cu.eam\nlabelmap atom 1 Xx\n", "'Xx' is not an element"),
        ("pair_style sw\npair_coeff * * a.sw Si Si\n", "Si is named twice"),
        (SNAP + "run 100\n", "'run' is not allowed here"),
        (SNAP + "fix 1 all nve\n", "'fix' is not allowed here"),
        ("pair_style 'sw\n", "No closing quotation"),
        ("include pot.in\n", "includes itself"),
        ("include none.in\n", "cannot read"),
    ],
)
def test_error_messages_include_the_remedy(folder: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_commands(written(folder, text))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the LAMMPS commands"):
        read_commands(tmp_path / "nothing.in")


def test_files_are_found_beside_the_commands_then_elsewhere(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    source = written(other, SNAP)
    (other / "si.snapcoeff").write_text("mine")
    read = read_commands(source, [folder])
    assert str(other / "si.snapcoeff") in read.after_box[1]
    assert str(folder / "si.snapparam") in read.after_box[1]


def test_paths_with_spaces_are_quoted(tmp_path: Path) -> None:
    spaced = tmp_path / "my potentials"
    source = written(spaced, "pair_style sw\npair_coeff * * Si.sw Si\n")
    (spaced / "Si.sw").write_text("")
    assert f'"{spaced / "Si.sw"}"' in read_commands(source).after_box[1]


def test_includes_are_followed(folder: Path) -> None:
    written(folder, SNAP, "inner.snap")
    assert read_commands(written(folder, "include inner.snap\n")).elements == ("Si", "C")


def test_commands_of_the_engine_are_skipped(folder: Path) -> None:
    read = read_commands(written(folder, "units metal\nclear\nneighbor 2 bin\n" + SNAP))
    assert read.before_box == ("units metal",)
    assert [text.split()[0] for text in read.after_box] == ["pair_style", "pair_coeff"]


def test_the_fingerprint_covers_what_defines_the_potential(folder: Path, tmp_path: Path) -> None:
    plain = read_commands(written(folder, SNAP)).fingerprint
    noted = read_commands(written(folder, "# mine\n\n" + SNAP.replace(" *", "   *"))).fingerprint
    moved = tmp_path / "moved"
    source = written(moved, SNAP)
    for name in ("si.snapcoeff", "si.snapparam"):
        (moved / name).write_text((folder / name).read_text())
    elsewhere = read_commands(source).fingerprint
    assert plain == noted == elsewhere
    (moved / "si.snapcoeff").write_text("other coefficients")
    assert read_commands(source).fingerprint != plain
    assert read_commands(written(folder, SNAP + "pair_modify shift yes\n")).fingerprint != plain
