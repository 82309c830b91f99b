"""The reference is what i-PI itself would send first, whatever the file and the XML are like."""

from __future__ import annotations

import contextlib
import gc
import io
import re
import warnings
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st
from ipi.engine.simulation import Simulation

from mixserver.analysis.checks.files import check_files
from mixserver.config import load_case
from mixserver.core.errors import ConfigError
from mixserver.core.units import ANGSTROM, BOHR
from mixserver.server.reference.structure import find_ipi_input, find_reference, read_reference

SOCKET = "<ffsocket name='mix' mode='unix'><address>a</address></ffsocket>"
MOTION = (
    "<motion mode='dynamics'><dynamics mode='nve'>"
    "<timestep units='femtosecond'> 1 </timestep></dynamics></motion>"
)
REGION = (
    '[region]\ncore_radius = 1.0\nblend_width = 1.0\nseeds = { kind = "atoms", indices = [0] }\n'
)
PER_ANGSTROM = {"angstrom": 1.0, "nanometer": 0.1, "picometer": 100.0, "atomic_unit": ANGSTROM}


def case_of(
    folder: Path,
    initialize: str,
    *,
    structure: str,
    upstream: str = "",
    region: str = REGION,
    beads: int = 1,
    system: str = "",
) -> Path:
    """Write a case, and i-PI's input beside it."""
    text = system or (
        f"<system><initialize nbeads='{beads}'>{initialize}</initialize>"
        f"<forces><force forcefield='mix'/></forces>{MOTION}</system>"
    )
    (folder / "input.xml").write_text(f"<simulation>{SOCKET}{text}</simulation>")
    (folder / "mix.toml").write_text(
        f'[upstream]\naddress = "unix:a"\nstructure = "{structure}"\n{upstream}\n{region}'
        "[models.cheap]\n" + ("[models.expensive]\n" if region else "")
    )
    return folder


def what_ipi_starts_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Simulation:
    """The whole of i-PI, bound as for a run but without opening its sockets."""
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Path("input.xml").open() as handle:
            simulation = Simulation.load_from_xml(handle, read_only=True)
        gc.collect()
    return simulation


def tilted() -> ase.Atoms:
    """Primitive vectors as everybody writes them: none along x."""
    atoms = bulk("Si", "diamond", a=5.43).repeat((2, 2, 3))
    atoms.positions += 0.1 * np.sin(np.arange(3.0 * len(atoms))).reshape(-1, 3)
    return atoms


def mirrored() -> ase.Atoms:
    atoms = tilted()
    atoms.set_cell(atoms.cell[[1, 0, 2]], scale_atoms=False)
    return atoms


def xyz(atoms: ase.Atoms, unit: str = "angstrom", cell_unit: str = "", comment: str = "") -> str:
    """i-PI's xyz, lengths in a unit."""
    scale, of_cell = PER_ANGSTROM[unit], PER_ANGSTROM[cell_unit or unit]
    edges = [*(atoms.cell.lengths() * of_cell), *atoms.cell.angles()]
    rows = [
        f"{symbol} {' '.join(repr(float(x * scale)) for x in place)}"
        for symbol, place in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    head = f"# CELL(abcABC): {' '.join(repr(float(x)) for x in edges)} {comment}"
    return "\n".join([str(len(atoms)), head, *rows]) + "\n"


def standard(atoms: ase.Atoms) -> ase.Atoms:
    turned = atoms.copy()
    turned.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    return turned


FILES = {
    "units in the comment": (
        "a.xyz",
        "<file mode='xyz'> a.xyz </file>",
        lambda: xyz(standard(tilted()), comment="positions{angstrom} cell{angstrom}"),
    ),
    "units in the XML": (
        "a.xyz",
        "<file mode='xyz' units='angstrom' cell_units='nanometer'> a.xyz </file>",
        lambda: xyz(standard(tilted()), "angstrom", "nanometer"),
    ),
    "no units": (
        "a.xyz",
        "<file mode='xyz'>a.xyz</file>",
        lambda: xyz(standard(tilted()), "atomic_unit"),
    ),
    "a cell of the XML's own": (
        "a.xyz",
        "<file mode='xyz' units='angstrom'> a.xyz </file>"
        "<cell mode='abc' units='angstrom'> [ 11, 12, 13 ] </cell>",
        lambda: "2\nno cell here\nSi 0 0 0\nO 1.6 0 0\n",
    ),
    "positions and cell apart": (
        "a.xyz",
        "<positions mode='xyz' units='angstrom'> a.xyz </positions>"
        "<labels mode='xyz'> a.xyz </labels><masses mode='xyz'> a.xyz </masses>"
        "<cell mode='abcABC' units='angstrom'> [ 11, 12, 13, 80, 85, 95 ] </cell>",
        lambda: "2\nno cell here\nSi 0 0 0\nO 1.6 0 0\n",
    ),
    "GENH": (
        "a.xyz",
        "<file mode='xyz'> a.xyz </file>",
        lambda: (
            "1\n# CELL(GENH): 0 9 0 -8 1 0 0 0 7 positions{angstrom} cell{angstrom}\nSi 1 2 3\n"
        ),
    ),
    "PDB in bohr": (
        "a.pdb",
        "<file mode='pdb'> a.pdb </file>",
        lambda: (
            "TITLE     cell{atomic_unit} positions{atomic_unit}\n"
            "CRYST1   30.000   31.000   32.000  90.00  90.00  80.00 P 1           1\n"
            "ATOM      1   Si   1     1       1.000   2.000   3.000  0.00  0.00          Si 0\n"
            "END\n"
        ),
    ),
    "an ordinary PDB": (
        "a.pdb",
        "<file mode='pdb'> a.pdb </file>",
        lambda: (
            "CRYST1   10.000   11.000   12.000  90.00  85.00  80.00 P 1           1\n"
            "ATOM      1   Si   1     1       1.000   2.000   3.000  0.00  0.00          Si 0\n"
            "END\n"
        ),
    ),
    "lines that end as on Windows": (
        "a.xyz",
        "<file mode='xyz'> a.xyz </file>",
        lambda: xyz(tilted(), comment="positions{angstrom} cell{angstrom}").replace("\n", "\r\n"),
    ),
    "a left-handed cell": ("a.extxyz", "<file mode='ase'> a.extxyz </file>", mirrored),
    "a CIF": ("a.cif", "<file mode='ase'> a.cif </file>", tilted),
    "a POSCAR that i-PI turns": ("POSCAR", "<file mode='ase'> POSCAR </file>", tilted),
    "extxyz that i-PI turns": ("a.extxyz", "<file mode='ase'> a.extxyz </file>", tilted),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_ipi_is_read_as_ipi_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, initialize, made = FILES[name]
    content = made()
    if isinstance(content, str):
        (tmp_path / file).write_text(content)
    else:
        write(tmp_path / file, content)
    folder = case_of(tmp_path, initialize, structure=file)
    topology, frame = read_reference(load_case(folder))
    system = what_ipi_starts_from(folder, monkeypatch).syslist[0]
    np.testing.assert_allclose(frame.positions, system.beads.q.reshape(-1, 3) * BOHR, atol=1e-12)
    np.testing.assert_allclose(frame.cell, np.array(system.cell.h).T * BOHR, atol=1e-12)
    assert ase.Atoms(topology.numbers).symbols.get_chemical_formula() == (
        ase.Atoms([str(label) for label in system.beads.names]).symbols.get_chemical_formula()
    )
    bare = [f.message for f in check_files(load_case(folder))[0] if f.level != "ok"]
    assert len(bare) == (name == "no units")
    assert all("so i-PI takes bohr: write positions{angstrom} cell{angstrom}" in b for b in bare)


@settings(max_examples=25)
@given(
    unit=st.sampled_from(sorted(PER_ANGSTROM)),
    cell_unit=st.sampled_from(sorted(PER_ANGSTROM)),
    in_xml=st.booleans(),
)
def test_whatever_the_unit_the_reference_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, unit: str, cell_unit: str, *, in_xml: bool
) -> None:
    atoms = standard(tilted())
    folder = tmp_path_factory.mktemp("units")
    said = "" if in_xml else f"positions{{{unit}}} cell{{{cell_unit}}}"
    attributes = f"units='{unit}' cell_units='{cell_unit}'" if in_xml else ""
    (folder / "a.xyz").write_text(xyz(atoms, unit, cell_unit, said))
    case_of(folder, f"<file mode='xyz' {attributes}> a.xyz </file>", structure="a.xyz")
    _, frame = read_reference(load_case(folder))
    np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(frame.cell, atoms.cell[:], atol=1e-9)


def test_a_checkpoint_is_read_and_its_beads_meet_in_their_centroid(tmp_path: Path) -> None:
    atoms = tilted()
    n = len(atoms)
    beads = np.stack([atoms.positions, atoms.positions + 0.2]) * ANGSTROM
    names = ", ".join(atoms.symbols)
    (tmp_path / "run.chk").write_text(
        f"<simulation>{SOCKET}<system><beads natoms='{n}' nbeads='2'>"
        f"<q shape='(2, {3 * n})'> {beads.ravel().tolist()} </q>"
        f"<p shape='(2, {3 * n})'> {[0] * 6 * n} </p><m shape='({n})'> {[51196.7] * n} </m>"
        f"<names shape='({n})'> [ {names} ] </names></beads><cell shape='(3, 3)'>"
        f"{(standard(atoms).cell[:].T * ANGSTROM).ravel().tolist()}</cell>"
        f"<forces><force forcefield='mix'/></forces>{MOTION}</system></simulation>"
    )
    folder = case_of(tmp_path, "<file mode='chk'> run.chk </file>", structure="run.chk", beads=2)
    _, frame = read_reference(load_case(folder))
    np.testing.assert_allclose(frame.positions, atoms.positions + 0.1, atol=1e-9)


def test_two_files_of_which_one_is_in_bohr_are_refused(tmp_path: Path) -> None:
    atoms = standard(bulk("Si", "diamond", a=5.43).repeat((2, 2, 3)))
    write(tmp_path / "ours.extxyz", atoms)
    initialize = "<file mode='xyz'> theirs.xyz </file>"
    folder = case_of(tmp_path, initialize, structure="ours.extxyz")
    (folder / "theirs.xyz").write_text(xyz(atoms, comment="positions{angstrom} cell{angstrom}"))
    np.testing.assert_allclose(read_reference(load_case(folder))[1].cell, atoms.cell[:])
    (folder / "theirs.xyz").write_text(xyz(atoms))
    with pytest.raises(ConfigError, match=r"edges of the cell in structure .* 1\.8897 times"):
        read_reference(load_case(folder))
    # the cell has its unit, the positions have none
    (folder / "theirs.xyz").write_text(xyz(atoms, comment="cell{angstrom}"))
    with pytest.raises(ConfigError, match=r"distances between neighbours .* 1\.8897 times"):
        read_reference(load_case(folder))


def test_a_start_that_was_strained_moved_or_grown_by_chance_is_not_refused(tmp_path: Path) -> None:
    atoms = standard(tilted())
    write(tmp_path / "ours.extxyz", atoms)
    initialize = "<file mode='xyz'> theirs.xyz </file>"
    folder = case_of(tmp_path, initialize, structure="ours.extxyz")
    for factors in ((1.05, 1.05, 1.05), (0.93, 1.0, 1.1), (1.0, 1.0, 1.8897)):
        other = atoms.copy()
        other.set_cell(atoms.cell[:] * np.array(factors)[:, None], scale_atoms=factors[2] < 1.5)
        other.positions += 3.0
        text = xyz(other, comment="positions{angstrom} cell{angstrom}")
        (folder / "theirs.xyz").write_text(text)
        read_reference(load_case(folder))


@pytest.mark.parametrize("named", [True, False])
def test_several_frames_are_refused_where_one_must_be_the_reference(
    tmp_path: Path, *, named: bool
) -> None:
    one = xyz(standard(tilted()), comment="positions{angstrom} cell{angstrom}")
    (tmp_path / "path.xyz").write_text(3 * one)
    (tmp_path / "other.xyz").write_text(one)
    initialize = f"<file mode='xyz'> {'path' if named else 'other'}.xyz </file>"
    folder = case_of(tmp_path, initialize, structure="path.xyz")
    said = "holds 3 frames .*average them into 1 bead" if named else "holds several frames"
    with pytest.raises(ConfigError, match=said):
        read_reference(load_case(folder))
    case_of(tmp_path, initialize, structure="path.xyz", region="")
    assert len(read_reference(load_case(folder))[0]) == 24
    write(tmp_path / "path.extxyz", [tilted(), tilted()])
    case_of(tmp_path, initialize, structure="path.extxyz")
    with pytest.raises(ConfigError, match="several frames"):
        read_reference(load_case(folder))


def test_frames_that_ipi_contracts_are_told(tmp_path: Path) -> None:
    one = xyz(standard(tilted()), comment="positions{angstrom} cell{angstrom}")
    (tmp_path / "path.xyz").write_text(3 * one)
    (tmp_path / "one.xyz").write_text(one)
    folder = case_of(tmp_path, "<file mode='xyz'> path.xyz </file>", structure="one.xyz")
    told = [f for f in check_files(load_case(folder))[0] if f.what == "frames"]
    assert ["contracts them to 1 bead" in f.message for f in told] == [True]


@pytest.mark.parametrize("mode", ["ase", "none"])
def test_a_crystal_that_says_it_does_not_repeat_is_refused_until_mix_toml_decides(
    tmp_path: Path, mode: str
) -> None:
    atoms = standard(tilted())
    atoms.pbc = False
    write(tmp_path / "a.extxyz", atoms)
    (tmp_path / "b.xyz").write_text(xyz(atoms, comment="positions{angstrom} cell{angstrom}"))
    initialize = (
        "<file mode='ase'> a.extxyz </file>" if mode == "ase" else "<file mode='xyz'>b.xyz</file>"
    )
    folder = case_of(tmp_path, initialize, structure="a.extxyz")
    with pytest.raises(ConfigError, match=r'pbc="F F F", but its images are 2\.\d+ Å apart'):
        read_reference(load_case(folder))
    for said, pbc in (
        ("true", (True, True, True)),
        ("false", (False, False, False)),
        ("[true, true, false]", (True, True, False)),
    ):
        case_of(tmp_path, initialize, structure="a.extxyz", upstream=f"periodic = {said}")
        assert read_reference(load_case(folder))[0].pbc == pbc


def test_a_slab_or_molecule_in_enough_vacuum_is_taken_at_its_word(tmp_path: Path) -> None:
    slab, thin = fcc111("Al", (2, 2, 3), vacuum=6.5), fcc111("Al", (2, 2, 3), vacuum=3.0)
    slab.info.clear()
    thin.info.clear()
    folder = case_of(tmp_path, "<file mode='ase'> a.extxyz </file>", structure="a.extxyz")
    write(tmp_path / "a.extxyz", slab)
    assert slab.pbc.tolist() == [True, True, False]
    assert read_reference(load_case(folder))[0].pbc == (True, True, False)
    write(tmp_path / "a.extxyz", thin)
    with pytest.raises(ConfigError, match=r'pbc="T T F".*images are 6\.2'):
        read_reference(load_case(folder))


WATER = (
    "3\n# CELL(abcABC): 9 9 9 90 90 90 positions{{angstrom}} cell{{angstrom}}\n"
    "{0} 0 0 0\n{1} 1 0 0\n{2} 0 1 0\n"
)
MASSES = "<masses mode='manual' units='dalton'> [ 16, 1, 2 ] </masses>"


def test_isotopes_and_named_labels_have_their_elements(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER.format("OW", "H", "D"))
    initialize = "<file mode='xyz'> a.xyz </file>" + MASSES
    folder = case_of(tmp_path, initialize, structure="a.xyz")
    with pytest.raises(ConfigError, match=r"atom 0 is 'OW', which is not an element.*OW = "):
        read_reference(load_case(folder))
    case_of(tmp_path, initialize, structure="a.xyz", upstream='labels = { OW = "O" }')
    assert read_reference(load_case(folder))[0].numbers.tolist() == [8, 1, 1]
    assert [f for f in check_files(load_case(folder))[0] if f.level != "ok"] == []
    case_of(tmp_path, initialize, structure="a.xyz", upstream='labels = { OW = "Ow" }')
    with pytest.raises(ConfigError, match="OW = 'Ow' is not an element symbol"):
        read_reference(load_case(folder))


def test_a_mass_of_another_element_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER.format("CA", "H", "H"))
    heavy = MASSES.replace("16, 1, 2", "40.1, 1, 1")
    folder = case_of(
        tmp_path,
        "<file mode='xyz'> a.xyz </file>" + heavy,
        structure="a.xyz",
        upstream='labels = { CA = "C" }',
    )
    (told,) = (f for f in check_files(load_case(folder))[0] if f.level != "ok")
    assert re.search(
        r"'CA' is taken for C \(12\.011 amu\), but i-PI moves it with 40\.1", told.message
    )


def test_stock_clients_alone_need_neither_elements_nor_a_cell(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("2\nE-like\nE 0 0 0\nD 1 0 0\n")
    folder = case_of(tmp_path, "<file mode='xyz'> b.xyz </file>", structure="a.xyz", region="")
    (folder / "input.xml").unlink()
    mix = (folder / "mix.toml").read_text()
    (folder / "mix.toml").write_text(mix + '[workers]\nclients = "unix:c"\n')
    topology, _ = read_reference(load_case(folder))
    assert topology.numbers.tolist() == [0, 1]
    (folder / "mix.toml").write_text(mix)
    with pytest.raises(ConfigError, match="'E', which is not an element"):
        read_reference(load_case(folder))


def test_an_input_that_asks_other_servers_says_nothing_of_the_file(tmp_path: Path) -> None:
    text = xyz(standard(tilted()), comment="")
    (tmp_path / "a.xyz").write_text(text)
    folder = case_of(
        tmp_path, "<file mode='xyz' units='angstrom'> a.xyz </file>", structure="a.xyz"
    )
    said = (folder / "input.xml").read_text()
    (folder / "input.xml").write_text(said.replace("<address>a<", "<address>elsewhere<"))
    case = load_case(folder)
    assert find_ipi_input(case) is None
    reference = find_reference(case, None)
    np.testing.assert_allclose(
        reference.frame.positions, standard(tilted()).positions * BOHR, atol=1e-9
    )
    assert reference.how == "read by itself"


def test_systems_of_a_template_are_those_that_ipi_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = standard(tilted())
    for name in ("a", "b"):
        (tmp_path / f"{name}.xyz").write_text(xyz(atoms))
        atoms.positions += 0.5
    template = (
        "<system_template><labels> [ FILE, FILE1, UNIT ] </labels>"
        "<instance> [ a, A, angstrom ] </instance><instance> [ b, B, nanometer ] </instance>"
        "<template><system prefix='FILE1'><initialize nbeads='1'>"
        "<file mode='xyz' units='UNIT' cell_units='UNIT'> FILE.xyz </file></initialize>"
        f"<forces><force forcefield='mix'/></forces>{MOTION}</system></template></system_template>"
    )
    folder = case_of(tmp_path, "", structure="b.xyz", system=template)
    ipi = find_ipi_input(load_case(folder))
    assert ipi is not None
    assert [s.file.name for system in ipi.systems for s in system.sources] == ["a.xyz", "b.xyz"]
    frame = read_reference(load_case(folder))[1]
    theirs = what_ipi_starts_from(folder, monkeypatch).syslist[1]
    np.testing.assert_allclose(frame.positions, theirs.beads.q.reshape(-1, 3) * BOHR, atol=1e-12)


def test_a_lammps_data_file_is_named_and_what_to_write_instead(tmp_path: Path) -> None:
    write(tmp_path / "x.data", tilted(), format="lammps-data")
    folder = case_of(tmp_path, "<file mode='xyz'> a.xyz </file>", structure="x.data")
    (folder / "input.xml").unlink()
    with pytest.raises(ConfigError, match=r"looks like a LAMMPS data file.*init\.extxyz"):
        read_reference(load_case(folder))
    (tmp_path / "x.data").rename(tmp_path / "x.lmp")
    case_of(tmp_path, "<file mode='xyz'> a.xyz </file>", structure="x.lmp")
    (folder / "input.xml").unlink()
    with pytest.raises(ConfigError, match="looks like a LAMMPS data file"):
        read_reference(load_case(folder))


def test_the_structure_keeps_its_own_positions_where_ipi_starts_from_moved_ones(
    tmp_path: Path,
) -> None:
    """A run that goes on from an earlier one's positions has the same lambda and dead loads."""
    atoms = standard(tilted())
    (tmp_path / "init.xyz").write_text(xyz(atoms, "nanometer"))
    moved = atoms.copy()
    moved.set_cell(1.03 * atoms.cell[:], scale_atoms=True)
    (tmp_path / "last.xyz").write_text(xyz(moved, comment="positions{angstrom} cell{angstrom}"))
    initialize = (
        "<file mode='xyz' units='nanometer' cell_units='nanometer'> init.xyz </file>"
        "<positions mode='xyz'> last.xyz </positions><file mode='xyz'> last.xyz </file>"
    )
    folder = case_of(tmp_path, initialize, structure="init.xyz")
    _, frame = read_reference(load_case(folder))
    np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(frame.cell, atoms.cell[:], atol=1e-9)
    told = check_files(load_case(folder))[0]
    assert [f for f in told if f.level == "error"] == []
    assert ["within 3.00 %" in f.message for f in told if f.what == "start"] == [True]


def test_two_ways_to_read_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(xyz(standard(tilted())))
    one = (
        "<system><initialize nbeads='1'><file mode='xyz' units='{0}' cell_units='{0}'> a.xyz "
        f"</file></initialize><forces><force forcefield='mix'/></forces>{MOTION}</system>"
    )
    both = one.format("angstrom") + one.format("nanometer")
    folder = case_of(tmp_path, "", structure="a.xyz", system=both)
    with pytest.raises(ConfigError, match="give every system the same"):
        read_reference(load_case(folder))
    case_of(tmp_path, "", structure="a.xyz", system=2 * one.format("angstrom"))
    read_reference(load_case(folder))


def test_the_atoms_that_ipi_sends_are_those_of_its_active_list(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(WATER.format("O", "H", "H"))
    folder = case_of(tmp_path, "<file mode='xyz'> a.xyz </file>", structure="a.xyz")
    said = (folder / "input.xml").read_text()
    listed = "</address><activelist> [ 2, 0 ] </activelist>"
    (folder / "input.xml").write_text(said.replace("</address>", listed))
    topology, frame = read_reference(load_case(folder))
    assert topology.numbers.tolist() == [1, 8]
    np.testing.assert_allclose(frame.positions, [[0, 1, 0], [0, 0, 0]], atol=1e-9)
    assert [f for f in check_files(load_case(folder))[0] if f.level == "error"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ufeff1\n# CELL(abcABC): 9 9 9 90 90 90\nSi 0 0 0\n", "finds no frame in a.xyz"),
        ("2\n# CELL(abcABC): 9 9 9 90 90 90\nSi 0 0 0\n", "a.xyz announces 2 atoms but has 1"),
        ("1\n# CELL(abcABC): 9 9 9 90 90 90\nsi 0 0 0\n", "no mass of si in a.xyz"),
        ("1\nno cell\nSi 0 0 0\n", "finds no cell in a.xyz"),
        ("1\n# CELL(abcABC):9 9 9 90 90 90 cell{angstrom}\nSi 0 0 0\n", "a blank after the colon"),
        ("1\n# CELL(abcABC): 9 9 9 90 90 90 positions{furlong}\nSi 0 0 0\n", "furlong"),
    ],
)
def test_what_ipi_cannot_start_from_is_said_in_words(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.xyz").write_text(text)
    folder = case_of(tmp_path, "<file mode='xyz'> a.xyz </file>", structure="a.xyz")
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_reference(load_case(folder))


def test_a_binary_file_is_refused_as_ipi_would(tmp_path: Path) -> None:
    write(tmp_path / "a.traj", [tilted(), tilted()])
    folder = case_of(tmp_path, "<file mode='ase'> a.traj </file>", structure="a.traj")
    with pytest.raises(ConfigError, match=r"a\.traj: i-PI does not accept it"):
        read_reference(load_case(folder))
