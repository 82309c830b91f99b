"""What LAMMPS has after its set-up is what i-PI starts from: positions, cell, energy, masses."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.loading import start_lammps
from mixserver_worker.engines.lammps.set_up import execute_set_up

from mixserver.core.errors import ConfigError
from mixserver.ipi.start import read_initial_state
from mixserver.mixing.jobs import whole_system_job
from mixserver.new_case.lammps import elements_of_types, read_data, start_from_lammps
from mixserver.new_case.potential import potential_of_input, write_potential
from mixserver.new_case.start import write_start

pytestmark = pytest.mark.lammps
XML = """<simulation><ffsocket name='m' mode='unix'><address> a </address></ffsocket><system>
<initialize nbeads='1'>
<file mode='ase' units='angstrom' cell_units='angstrom'> init.extxyz </file>
</initialize>
<forces><force forcefield='m'/></forces><motion mode='dynamics'><dynamics mode='nve'/></motion>
</system></simulation>"""
INPUT = """units metal
boundary {boundary}
atom_modify map array
lattice diamond 4.6
region box block 0 2 0 2 0 2
create_box 2 box
create_atoms 1 box
set group all type/fraction 2 0.4 {seed}
mass 1 28.0855
mass 2 12.011
change_box all triclinic
change_box all {tilts} remap units box
displace_atoms all random 0.1 0.1 0.1 {seed}
displace_atoms all move {shift} {shift} 0
pair_style tersoff
pair_coeff * * SiC.tersoff Si C
fix 1 all nve
run 5
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "in.lmp"
    file.write_text(text)
    return file


def energy_in_lammps(file: Path) -> float:
    """The potential energy that LAMMPS itself has for an input, before its run."""
    lammps, _ = start_lammps(["-log", "none"], None)
    with closing(lammps):
        for line in file.read_text().splitlines():
            lammps.command(line if not line.startswith("run") else "run 0")
        return float(lammps.get_thermo("pe"))


tilt = st.floats(-2.0, 2.0).map(lambda value: round(value, 3))


@settings(max_examples=6, deadline=None)
@given(tilts=st.tuples(tilt, tilt, tilt), shift=st.floats(-9.0, 9.0), seed=st.integers(1, 999))
def test_any_tilted_box_has_the_same_energy_in_the_case(
    tmp_path_factory: pytest.TempPathFactory,
    tilts: tuple[float, float, float],
    shift: float,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("tilted")
    text = INPUT.format(
        boundary="p p p",
        tilts="xy final {} xz final {} yz final {}".format(*tilts),
        seed=seed,
        shift=f"{shift:.6f}",
    )
    file = written(folder, text)
    state = execute_set_up(file)
    elements, _ = elements_of_types(state, None)
    start = start_from_lammps(state, file.name, elements)
    write_start(start, folder)
    write_potential(potential_of_input(state, file, elements), folder, "copy")
    (folder / "input.xml").write_text(XML)

    ipi = read_initial_state(folder / "input.xml", 0)

    assert ipi.labels == tuple("Si" if t == 1 else "C" for t in state.types)
    np.testing.assert_allclose(ipi.centroid, state.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ipi.cell, start.frame.cell, rtol=0, atol=1e-11)
    with closing(LammpsEngine(folder / "cheap.in")) as engine:
        frame = start.frame.topology.frame(ipi.centroid.copy(), ipi.cell.copy())
        energy = engine.evaluate(whole_system_job(frame)).energy
    assert energy == pytest.approx(energy_in_lammps(file), abs=1e-8)


def test_velocities_masses_and_groups_are_lammps_own(tmp_path: Path) -> None:
    text = INPUT.format(boundary="p p p", tilts="xy final 0", seed=7, shift="0")
    text = text.replace("mass 2 12.011", "mass 2 13.0")
    text = text.replace(
        "fix 1 all nve",
        "group some id 2:5\nvelocity all create 300 17 mom yes\nfix 1 some nve",
    )
    state = execute_set_up(written(tmp_path, text))
    fix = next(line for line in state.lines if line.words[0] == "fix")
    assert fix.atoms == (1, 2, 3, 4)
    start = start_from_lammps(state, "in.lmp", ("Si", "C"))
    assert start.velocities is not None
    assert start.masses is not None
    kinetic = 0.5 * (start.masses[:, None] * start.velocities**2).sum() * 103.6426966  # amu Å²/fs²
    atoms = len(start.frame)
    assert 2.0 * kinetic / (3 * atoms - 3) / 8.617333262e-5 == pytest.approx(300.0, rel=1e-4)
    write_start(start, tmp_path)
    (tmp_path / "input.xml").write_text(XML)
    np.testing.assert_allclose(read_initial_state(tmp_path / "input.xml", 0).masses, start.masses)


def test_open_boundaries_stay_open(tmp_path: Path) -> None:
    text = INPUT.format(boundary="p p f", tilts="xy final 0", seed=7, shift="0")
    start = start_from_lammps(execute_set_up(written(tmp_path, text)), "in", ("Si", "C"))
    assert start.frame.topology.pbc == (True, True, False)


DATA = """LAMMPS data file{units}

4 atoms
2 atom types
0.0 6.0 xlo xhi
0.0 6.0 ylo yhi
-1.0 6.0 zlo zhi
2.5 0.5 -1.0 xy xz yz

{sections}
Atoms{style}

2 2 3.0 0.0 0.0
1 1 0.0 0.0 0.0
4 1 3.0 3.0 3.0
3 2 0.0 3.0 0.0
"""
LABELS = "Atom Type Labels\n\n1 Si\n2 C\n"
MASSES = "Masses\n\n1 28.0855 # Si\n2 12.011\n"


@pytest.mark.parametrize("sections", [LABELS, MASSES, f"{LABELS}\n{MASSES}"])
def test_a_data_file_names_its_elements_by_labels_or_masses(tmp_path: Path, sections: str) -> None:
    if sections == f"{LABELS}\n{MASSES}":
        sections = sections.replace("1 28.0855 # Si\n2 12", "Si 28.0855\nC 12")
    file = tmp_path / "si c.data"
    file.write_text(DATA.format(units=", units = metal", sections=sections, style=" # atomic"))
    state = read_data(file, units=None, atom_style=None)
    elements, _ = elements_of_types(state, None)
    start = start_from_lammps(state, file.name, elements)
    assert elements == ("Si", "C")
    assert start.ids == (1, 2, 3, 4)
    assert start.frame.topology.numbers.tolist() == [14, 6, 6, 14]
    np.testing.assert_allclose(start.frame.cell, [[6, 0, 0], [2.5, 6, 0], [0.5, -1, 7]])


def test_what_a_data_file_leaves_open_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.data"
    file.write_text(DATA.format(units="", sections="", style=""))
    with pytest.raises(ConfigError, match=r"does not say its units.*--units metal"):
        read_data(file, units=None, atom_style=None)
    state = read_data(file, units="metal", atom_style=None)
    with pytest.raises(ConfigError, match=r"which element atom type 1 is.*--elements X,X"):
        elements_of_types(state, None)
    assert elements_of_types(state, ["Si", "C"])[0] == ("Si", "C")
    with pytest.raises(ConfigError, match="LAMMPS has 2 types"):
        elements_of_types(state, ["Si"])
    file.write_text(DATA.format(units=", units = lj", sections="", style=""))
    with pytest.raises(ConfigError, match="metal and real are converted"):
        read_data(file, units=None, atom_style=None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("if 1 then 'run 5'", "decides which lines LAMMPS executes"),
        ("jump SELF again", "decides which lines LAMMPS executes"),
        ("read_data nowhere.data", r"in\.lmp:6: LAMMPS refuses"),
        ("pair_style nonsense", r"LAMMPS refuses.*--cheap"),
        ("include nowhere.lmp", "there is no file nowhere"),
        ("mass 1 ${m}", "--var NAME=VALUE"),
    ],
)
def test_lines_that_cannot_be_followed_are_refused(tmp_path: Path, line: str, said: str) -> None:
    text = f"units metal\nlattice fcc 4\nregion b block 0 2 0 2 0 2\ncreate_box 1 b\n\n{line}\n"
    with pytest.raises(ConfigError, match=said):
        execute_set_up(written(tmp_path, text))


def test_includes_variables_and_continued_lines(tmp_path: Path) -> None:
    (tmp_path / "atoms.lmp").write_text(
        "lattice fcc ${a}\nregion b block 0 2 0 2 &\n 0 2\ncreate_box 1 b\ncreate_atoms 1 box\n"
    )
    file = written(tmp_path, "units metal\ninclude atoms.lmp\nmass 1 63.546\nrun 3\n")
    state = execute_set_up(file, potential=False, variables=["a=3.6"])
    assert len(state.ids) == 32
    assert state.edges[0] == pytest.approx(7.2)
    assert [(line.file, line.number) for line in state.lines][1:3] == [
        ("atoms.lmp", 1),
        ("atoms.lmp", 2),
    ]
    assert elements_of_types(state, None)[0] == ("Cu",)


@pytest.mark.parametrize(
    ("coefficients", "types"), [("Si NULL C", "1 Si 2 C"), ("Si Si C", "1 Si 2 C")]
)
def test_types_without_atoms_and_twins_are_left_out(
    tmp_path: Path, coefficients: str, types: str
) -> None:
    text = INPUT.format(boundary="p p p", tilts="xy final 0", seed=7, shift="0")
    text = text.replace("create_box 2", "create_box 3").replace(
        "type/fraction 2", "type/fraction 3"
    )
    text = text.replace("mass 2 12.011", "mass 2 28.0855\nmass 3 12.011")
    text = text.replace("SiC.tersoff Si C", f"SiC.tersoff {coefficients}")
    if "NULL" not in coefficients:
        text = text.replace("mass 1", "set atom 1 type 2\nmass 1")
    file = written(tmp_path, text)
    state = execute_set_up(file)
    made = potential_of_input(state, file, elements_of_types(state, None)[0])
    assert made.lines[0] == f"labelmap atom {types}"
    assert made.lines[-1] == "pair_coeff * * SiC.tersoff Si C"


def test_contradicting_elements_are_refused(tmp_path: Path) -> None:
    text = INPUT.format(boundary="p p p", tilts="xy final 0", seed=7, shift="0")
    state = execute_set_up(written(tmp_path, text.replace("mass 2 12.011", "mass 2 15.999")))
    with pytest.raises(ConfigError, match=r"atom type 2 is C by its pair_coeff, O by its masses"):
        elements_of_types(state, None)
