"""What i-PI would refuse is refused before, in its words; what it accepts passes."""

from __future__ import annotations

import contextlib
import gc
import io
import warnings
from pathlib import Path

import pytest
from ipi.engine.simulation import Simulation

from mixserver.core.errors import ConfigError
from mixserver.ipi.input import read_input
from mixserver.ipi.parse import expand_template, parse_input
from mixserver.ipi.values import invalid_values, physical_quantities

INPUTS = Path(__file__).parents[2] / "inputs"
SOCKET = (
    "<ffsocket mode='unix' name='mix'><latency>1e-2</latency><timeout>600</timeout>"
    "<address>a</address></ffsocket>"
)
FORCES = "<forces><force forcefield='mix'/></forces>"
KELVIN = "<ensemble><temperature units='kelvin'> 300 </temperature></ensemble>"
OUTPUT = (
    "<output prefix='data'>"
    "<properties stride='2'> [ step, time{femtosecond}, kinetic_cv(H), atom_x(0){angstrom} ] "
    "</properties><trajectory filename='xc' format='xyz'> x_centroid{angstrom} </trajectory>"
    "<trajectory filename='e' extra_type='core'> extras </trajectory>"
    "<checkpoint stride='200' filename='chk' overwrite='true'/></output>"
)


def start(beads: int = 1) -> str:
    return (
        f"<initialize nbeads='{beads}'><file mode='xyz'> init.xyz </file>"
        "<velocities mode='thermal' units='kelvin'> 100 </velocities></initialize>"
    )


def nvt(bath: str, more: str = "") -> str:
    return (
        f"<motion mode='dynamics'>{more}<dynamics mode='nvt'>"
        f"<timestep units='femtosecond'> 0.5 </timestep>{bath}</dynamics></motion>"
    )


STEP = "<timestep units='femtosecond'> 0.5 "
LANGEVIN = "<thermostat mode='langevin'><tau units='femtosecond'> 10 </tau></thermostat>"

ACCEPTED = {
    "plain": f"{SOCKET}<system>{start()}{FORCES}{KELVIN}{nvt(LANGEVIN)}</system>",
    "alchemy beside dynamics": (
        f"{SOCKET}<system>{start(4)}{FORCES}{KELVIN}<motion mode='multi'>"
        f"{nvt(LANGEVIN, '<fixatoms> [ 0, 1 ] </fixatoms>')}<motion mode='alchemy'><alchemy>"
        "<nxc> 1 </nxc><names> [ H, D ] </names></alchemy></motion></motion></system>"
    ),
    "a committee, a barostat, many thermostats": (
        "<ffcommittee name='mix'><weights> [ 1, 1 ] </weights>"
        f"{SOCKET.replace('mix', 'one')}{SOCKET.replace('mix', 'two')}</ffcommittee>"
        f"<system>{start(4)}<forces><force forcefield='mix' nbeads='1'>"
        "<interpolate_extras> [ core ] </interpolate_extras></force></forces>"
        "<ensemble><temperature units='kelvin'> 300 </temperature>"
        "<pressure units='megapascal'> 0.1 </pressure></ensemble>"
        "<motion mode='dynamics'><dynamics mode='npt'><barostat mode='isotropic'>"
        f"<tau units='femtosecond'> 200 </tau>{LANGEVIN}</barostat>"
        "<timestep units='femtosecond'> 0.5 </timestep><thermostat mode='multi'>"
        "<thermostat mode='pile_g'><tau units='femtosecond'> 10 </tau></thermostat>"
        "<thermostat mode='svr'><tau units='femtosecond'> 10 </tau></thermostat></thermostat>"
        "</dynamics></motion></system>"
    ),
    "positions by hand, bosons": (
        f"{SOCKET}<system>{FORCES}<initialize nbeads='3'>"
        "<positions mode='manual' bead='0'> [ 1, 2, 3, 4, 5, 6, 7, 8, 9 ] </positions>"
        "<masses mode='manual'> [ 1, 1, 1 ] </masses><labels mode='manual'> ['B', 'B', 'D'] "
        "</labels><cell units='angstrom' mode='abc'> [ 25, 25, 25 ] </cell></initialize>"
        "<normal_modes propagator='bab'><nmts> 10 </nmts><bosons id='label'> ['B'] </bosons>"
        f"</normal_modes>{KELVIN}"
        + nvt("<thermostat mode='pile_l'><tau units='femtosecond'> 10 </tau></thermostat>")
        + "</system>"
    ),
    "rotations, an optimiser with its tolerances": (
        f"<ffrotations name='mix'><grid_order> 3 </grid_order>{SOCKET.replace('mix', 'one')}"
        f"</ffrotations><system>{start()}{FORCES}<motion mode='minimize'>"
        "<optimizer mode='bfgstrm'><tolerances><energy units='electronvolt'> 1e-6 </energy>"
        "<force> 1e-5 </force></tolerances></optimizer></motion></system>"
    ),
    "a thermostat from a file of its own": (
        f"{SOCKET}<system>{start()}{FORCES}{KELVIN}"
        + nvt("<thermostat mode='gle'><A shape='(2,2)' mode='file'> a.dat </A></thermostat>")
        + "</system>"
    ),
    "replicas of a template": (
        f"{SOCKET}<system_template><labels> [ NAME, TEMP ] </labels>"
        "<instance> [ cold, 200 ] </instance><instance> [ hot, 250 ] </instance><template>"
        f"<system prefix='NAME'>{start()}{FORCES}{KELVIN.replace('300', 'TEMP')}{nvt(LANGEVIN)}"
        "</system></template></system_template>"
        "<smotion mode='remd'><remd><stride> 2 </stride></remd></smotion>"
    ),
}


def written(folder: Path, body: str, output: str = OUTPUT) -> Path:
    (folder / "init.xyz").write_text(
        "3\n# CELL(abcABC): 9 9 9 90 90 90 positions{angstrom} cell{angstrom}\n"
        "H 0 0 0\nD 1 0 0\nO 0 1 0\n"
    )
    (folder / "a.dat").write_text("1e-3 2e-4 -2e-4 1e-5\n")
    file = folder / "input.xml"
    file.write_text(f"<simulation>{output}<total_steps> 9 </total_steps>{body}</simulation>")
    return file


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_ipi_accepts_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = written(tmp_path, ACCEPTED[name])
    assert invalid_values(file) == []
    assert {q.tag for q in physical_quantities(file) if not q.unit} <= {"force"}
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with file.open() as handle:
            Simulation.load_from_xml(handle, read_only=True)  # i-PI itself accepts it
        gc.collect()


PLAIN = ACCEPTED["plain"]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            f"{STEP}</timestep>",
            f"{STEP.replace('step', 'stp')}</timestp>",
            r"'timestp' is not .* did you mean <timestep>\?",
        ),
        ("</timestep>", "</timestep><tau>3</tau>", "Tag name 'tau' is not a recognized"),
        ("nbeads=", "nbead=", r"'nbead' is not .* did you mean nbeads\?"),
        ("'nvt'", "'ntv'", r"<dynamics> mode=.*ntv is not a valid option.* mean nvt"),
        ("'langevin'", "'langevn'", r"<thermostat> mode=.*did you mean langevin"),
        ("'femtosecond'> 0.5", "'femtoseconds'> 0.5", "<timestep>.*seconds"),
        ("> 0.5 <", "> half <", "could not convert string to float"),
        ("force forcefield='mix'", "force forcefield='mx'", r"'mx' is not among mix; .*mix\?"),
        ("kinetic_cv(H)", "kinetik_cv(H)", r"<properties>.*'kinetik_cv' .*mean kinetic_cv"),
        ("x_centroid", "x_centrid", r"<trajectory>.*'x_centrid' .*mean x_centroid"),
        ("mode='unix'", "mode='unx'", r"<ffsocket> mode=.*unx is not a valid option.*unix"),
    ],
)
def test_what_ipi_would_refuse_later_is_said_with_what_was_meant(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    body, output = PLAIN.replace(right, wrong, 1), OUTPUT.replace(right, wrong, 1)
    assert (body, output) != (PLAIN, OUTPUT)
    file = written(tmp_path, body, output)
    try:
        found = invalid_values(file)
    except ConfigError as error:
        found = [str(error)]
    assert len(found) == 1
    with pytest.raises(ConfigError, match=said):
        raise ConfigError(found[0])
    assert "\n" not in found[0]


def test_what_fits_one_by_one_but_not_together_is_said(tmp_path: Path) -> None:
    body = ACCEPTED["a committee, a barostat, many thermostats"]
    (said,) = invalid_values(written(tmp_path, body.replace("isotropic", "anisotropic")))
    assert "<motion>: i-PI does not accept it: Reference cell MUST be specified" in said
    (said,) = invalid_values(written(tmp_path, body.replace("[ 1, 1 ]", "[ 1, 1, 1 ]")))
    assert "<ffcommittee>: i-PI does not accept it: List of weights does not match" in said


def test_a_template_whose_instances_do_not_fit_is_refused(tmp_path: Path) -> None:
    body = ACCEPTED["replicas of a template"].replace("[ hot, 250 ]", "[ hot ]")
    file = written(tmp_path, body)
    for reading in (invalid_values, read_input):
        with pytest.raises(ConfigError, match=r"2 <labels> \(NAME, TEMP\) .* of 1 \(hot\)"):
            reading(file)


def test_something_else_than_a_simulation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "input.xml").write_text(f"<simulatio>{SOCKET}</simulatio>")
    with pytest.raises(ConfigError, match="begins with <simulatio>; i-PI wants <simulation>"):
        parse_input(tmp_path / "input.xml")


@pytest.mark.parametrize("file", sorted(INPUTS.glob("*/*.xml")), ids=str)
def test_all_inputs_of_the_repository_pass(file: Path) -> None:
    assert invalid_values(file) == []
    assert [q for q in physical_quantities(file) if not q.unit] == []


def test_numbers_without_a_unit_are_told_as_ipi_takes_them(tmp_path: Path) -> None:
    bare = (
        PLAIN.replace("<timestep units='femtosecond'> 0.5", "<timestep> 5")
        .replace("<temperature units='kelvin'>", "<temperature>")
        .replace("<velocities mode='thermal' units='kelvin'>", "<velocities mode='thermal'>")
        .replace("</initialize>", "<cell mode='abc'> [ 20, 20, 20 ] </cell></initialize>")
    )
    found = {q.tag: q.shown for q in physical_quantities(written(tmp_path, bare)) if not q.unit}
    assert found == {
        "timestep": "0.121 femtosecond",
        "temperature": "9.47e+07 kelvin",
        "velocities": "3.16e+07 kelvin",
        "cell": "10.6 angstrom",
    }


def test_a_restart_has_no_numbers_without_units(tmp_path: Path) -> None:
    state = (
        "<beads natoms='1' nbeads='1'><q shape='(1, 3)'> [ 0, 0, 0 ] </q>"
        "<p shape='(1, 3)'> [ 0, 0, 0 ] </p><m shape='(1)'> [ 1 ] </m>"
        "<names shape='(1)'> [ H ] </names></beads><cell shape='(3, 3)'> [ 9, 0, 0, 0, 9, 0, 0, 0, "
        "9 ] </cell>"
    )
    motion = nvt("").replace(" units='femtosecond'", "")
    file = written(tmp_path, f"{SOCKET}<system>{state}{FORCES}{motion}</system>")
    assert physical_quantities(file) == ()
    assert invalid_values(file) == []


def test_the_systems_of_a_template_are_made_once(tmp_path: Path) -> None:
    """i-PI takes a tenth of a second for each, and each is looked at several times."""
    file = written(tmp_path, ACCEPTED["replicas of a template"])
    (template,) = [one for name, one in parse_input(file).extra if name == "system_template"]
    first, again = (list(expand_template(template, tmp_path)) for _ in range(2))
    assert len(first) == 2
    assert all(one is other for one, other in zip(first, again, strict=True))
