"""What i-PI will start from against the reference, before any model is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from mixserver.analysis.checks.files import check_files
from mixserver.analysis.checks.findings import Finding
from mixserver.config import load_case
from mixserver.core.errors import ConfigError
from mixserver.server.reference.start import check_starts, compare_starts
from mixserver.server.reference.structure import find_ipi_input, read_reference

CRYSTAL = bulk("Ar", "fcc", 5.3, cubic=True) * (3, 3, 3)
XML = """<simulation verbosity='low'>
  <ffsocket name='mix' mode='unix' pbc='false'><address>a</address></ffsocket>
  <system>
    <initialize nbeads='BEADS'>FILE</initialize>
    <forces><force forcefield='mix'/></forces>
    <ensemble><temperature units='kelvin'>40</temperature></ensemble>
    <motion mode='dynamics'><dynamics mode='nve'>
      <timestep units='femtosecond'>1</timestep></dynamics></motion>
  </system>
</simulation>
"""
TOML = """
[upstream]
address = "unix:a"
structure = "reference.extxyz"
MISMATCH
[region]
core_radius = 3.0
blend_width = 3.0
seeds = SEEDS
[mixing]
kind = "KIND"
[models.cheap]
[models.expensive]
"""
ATOM = '{ kind = "atoms", indices = [5] }'


def _ipi(file: Path, *frames: Atoms) -> None:
    text = []
    for atoms in frames:
        box = " ".join(f"{x:.8f}" for x in atoms.cell.cellpar())
        text.append(f"{len(atoms)}\n# CELL(abcABC): {box} positions{{angstrom}} cell{{angstrom}}")
        text += [f"Ar {x:.8f} {y:.8f} {z:.8f}" for x, y, z in atoms.positions]
    file.write_text("\n".join(text) + "\n")


def _case(
    folder: Path,
    *frames: Atoms,
    kind: str = "energy",
    seeds: str = ATOM,
    mismatch: str = "",
    source: str = "<file mode='xyz'>init.xyz</file>",
) -> list[Finding]:
    """Findings of `check` about the start; `run` must refuse just where these are errors."""
    write(folder / "reference.extxyz", CRYSTAL)
    _ipi(folder / "init.xyz", *frames)
    (folder / "input.xml").write_text(
        XML.replace("FILE", source).replace("BEADS", str(len(frames)))
    )
    toml = TOML.replace("SEEDS", seeds).replace("KIND", kind).replace("MISMATCH", mismatch)
    (folder / "mix.toml").write_text(toml)
    case = load_case(folder)
    findings = [one for one in check_files(case)[0] if one.what == "start"]
    ipi = find_ipi_input(case)
    assert ipi is not None
    refused = any(one.level == "error" for one in findings)
    if refused:
        with pytest.raises(ConfigError):
            check_starts(case, ipi, read_reference(case)[1])
    else:
        check_starts(case, ipi, read_reference(case)[1])
    return findings


def _shuffled() -> Atoms:
    order = np.random.default_rng(0).permutation(len(CRYSTAL))
    return CRYSTAL[order]


def _scaled(factor: float) -> Atoms:
    atoms = CRYSTAL.copy()
    atoms.set_cell(factor * atoms.cell, scale_atoms=True)
    return atoms


def test_the_same_start_is_fine(tmp_path: Path) -> None:
    (found,) = _case(tmp_path, CRYSTAL)
    assert found.level == "ok"
    assert "cell within 0.00 % of the structure's, rms displacement 0.000 Å" in found.message


def test_another_order_is_an_error(tmp_path: Path) -> None:
    (found,) = _case(tmp_path, _shuffled())
    assert found.level == "error"
    assert "equal atoms in another order" in found.message


def test_it_is_a_warning_where_it_is_meant(tmp_path: Path) -> None:
    (found,) = _case(tmp_path, _shuffled(), mismatch='mismatch = "warn"')
    assert found.level == "warning"


def test_order_does_not_matter_where_none_is_used(tmp_path: Path) -> None:
    (found,) = _case(
        tmp_path, _shuffled(), kind="force", seeds='{ kind = "species", elements = ["Ar"] }'
    )
    assert found.level == "warning"  # far from its sites
    assert "not of this start" in found.message


@pytest.mark.parametrize(("factor", "level"), [(1.02, "ok"), (1.1, "warning"), (1.4, "error")])
def test_other_volumes(tmp_path: Path, factor: float, level: str) -> None:
    (found,) = _case(tmp_path, _scaled(factor))
    assert found.level == level


def test_each_image_of_a_path_is_compared(tmp_path: Path) -> None:
    """Two images from one tool, the third from another that sorts atoms."""
    moved = CRYSTAL.copy()
    moved.positions[5] += [0.5, 0.5, 0.0]
    found = _case(tmp_path, CRYSTAL, moved, _shuffled())
    assert [one.level for one in found] == ["ok", "ok", "error"]
    assert found[2].message.startswith("init.xyz, bead 2: i-PI has equal atoms")


def test_beads_that_are_the_same_are_compared_once(tmp_path: Path) -> None:
    assert len(_case(tmp_path, CRYSTAL, CRYSTAL, CRYSTAL)) == 1


def test_a_start_that_cannot_be_read_or_counted_is_left_to_other_checks(tmp_path: Path) -> None:
    assert _case(tmp_path, CRYSTAL[:-1]) == []
    case = load_case(tmp_path)
    reference = read_reference(case)[1]
    (tmp_path / "input.xml").write_text(XML.replace("FILE", "").replace("BEADS", "1"))
    ipi = find_ipi_input(case)
    assert ipi is not None
    assert compare_starts(case, ipi, reference) == []


@pytest.mark.parametrize("mismatch", ["", 'mismatch = "warn"'])
def test_an_image_of_a_path_in_which_atoms_overlap_is_an_error(
    tmp_path: Path, mismatch: str
) -> None:
    """Two atoms exchange places on straight lines: they meet half-way."""
    path = [CRYSTAL.copy() for _ in range(3)]
    apart = CRYSTAL.positions[1] - CRYSTAL.positions[0]
    for image, part in zip(path, (0.0, 0.5, 1.0), strict=True):
        image.positions[0] += part * apart
        image.positions[1] -= part * apart
    first, second, third = _case(tmp_path, *path, mismatch=mismatch)
    assert (first.level, third.level) == ("ok", "ok")
    assert second.level == "error"
    assert "bead 1: atoms overlap" in second.message
    assert "limits.shortest_pair" in second.message
