"""What mix.toml and i-PI's input must agree on is found out before a run, and said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mixserver.analysis.checks.files import check_files
from mixserver.config import Case, load_case
from mixserver.core.frame import Topology
from mixserver.ipi.consistency import inconsistencies
from mixserver.ipi.input import read_input

SOCKET = "<ffsocket name='mix' mode='unix'><address>a</address>{more}</ffsocket>"
SYSTEM = (
    "<system><initialize nbeads='{beads}'><file mode='{mode}'>{file}</file></initialize>"
    "<forces><force forcefield='{forces}'/></forces></system>"
)
HYSTERESIS = "hysteresis = { time_in = 5.0, time_out = 5.0 }"
ATOMS = 'seeds = { kind = "atoms", indices = [0] }'
ANY = "0.0.0.0"  # noqa: S104 - what i-PI may bind
CRITERION = 'seeds = { kind = "criterion", compute = "centro/atom 8" }'


TAU = "<tau units='femtosecond'> 100 </tau>"
STEP = "<timestep units='femtosecond'> 1 </timestep>"
DYNAMICS = (
    "<dynamics mode='{0}'>" + STEP + "{1}<thermostat mode='{2}'>" + TAU + "</thermostat></dynamics>"
)
MD = "mode='dynamics'"
NPT = "<barostat mode='isotropic'><thermostat mode='langevin'>" + TAU + "</thermostat></barostat>"


def _case(
    folder: Path,
    *,
    address: str = '"unix:a"',
    beads: str = "ignored",
    region: str,
    bath: str = "everywhere",
) -> Case:
    (folder / "mix.toml").write_text(
        f'[upstream]\naddress = {address}\nstructure = "init.xyz"\nbeads = "{beads}"\n'
        f"[region]\ncore_radius = 1.0\nblend_width = 1.0\n{region}\n"
        '[mixing]\nkind = "force"\n[models.cheap]\n[models.expensive]\n'
        f'[ipi]\nthermostat = "{bath}"\n'
    )
    return load_case(folder)


def _xyz(file: Path, *labels: str, cell: float = 9.0) -> None:
    rows = "".join(f"{label} {at} 0 0\n" for at, label in enumerate(labels))
    comment = f"# CELL(abcABC): {cell} 9 9 90 90 90 positions{{angstrom}} cell{{angstrom}}"
    file.write_text(f"{len(labels)}\n{comment}\n{rows}")


def _said(
    folder: Path,
    *,
    sockets: str = SOCKET.format(more=""),
    systems: str = SYSTEM.format(beads=1, mode="xyz", file="init.xyz", forces="mix"),
    region: str = ATOMS,
    address: str = '"unix:a"',
    beads: str = "ignored",
    bath: str = "everywhere",
) -> list[str]:
    if not (folder / "init.xyz").exists():
        _xyz(folder / "init.xyz", "W", "He", "W")
    (folder / "input.xml").write_text(f"<simulation>{sockets}{systems}</simulation>")
    case = _case(folder, address=address, beads=beads, region=region, bath=bath)
    topology = Topology(np.array([74, 2, 74], np.int32))
    said = inconsistencies(case, read_input(folder / "input.xml"), topology)
    errors = [f.message for f in check_files(case)[0] if f.level == "error"]
    assert errors == said  # `check` says the same
    return said


def test_what_agrees_is_left_alone(tmp_path: Path) -> None:
    assert _said(tmp_path) == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("He", "W", "W"), "atom 0 is He in i-PI's .* but W in .*2 atoms differ"),
        (("W", "He"), "i-PI starts from 2 atoms .* has 3"),
        (("W", "He", "Xx"), None),  # i-PI takes any label with a mass; this one names no element
    ],
)
@pytest.mark.parametrize("where", ["xyz", "chk", "RESTART"])
def test_other_atoms_or_another_order_are_found(
    tmp_path: Path, where: str, labels: tuple[str, ...], said: str | None
) -> None:
    n = len(labels)
    state = (
        f"<beads natoms='{n}' nbeads='1'><q shape='(1, {3 * n})'> {list(range(3 * n))} </q>"
        f"<p shape='(1, {3 * n})'> {[0] * 3 * n} </p><m shape='({n})'> {[1] * n} </m>"
        f"<names shape='({n})'> [ {', '.join(labels)} ] </names></beads>"
        "<cell shape='(3, 3)'> [ 17, 0, 0, 0, 17, 0, 0, 0, 17 ] </cell>"
    )
    system = f"<system>{state}<forces><force forcefield='mix'/></forces></system>"
    if where == "xyz":
        _xyz(tmp_path / "theirs", *labels)
    elif where == "chk":
        (tmp_path / "theirs").write_text(f"<simulation>{system}</simulation>")
    if where != "RESTART":
        system = SYSTEM.format(beads=1, mode=where, file="theirs", forces="mix")
    if where == "xyz" and "Xx" in labels:
        heavy = f"</file><masses mode='manual' units='dalton'> {[9] * n} </masses>"
        system = system.replace("</file>", heavy)
    found = _said(tmp_path, systems=system)
    if said is None:
        assert found == []
    else:
        (one,) = found
        assert re.search(said, one)


def test_a_missing_file_of_ipi_is_said(tmp_path: Path) -> None:
    (one,) = _said(
        tmp_path, systems=SYSTEM.format(beads=1, mode="xyz", file="none.xyz", forces="mix")
    )
    assert "none.xyz (of <initialize>) does not exist" in one


def test_only_systems_that_ask_this_server_must_have_its_atoms(tmp_path: Path) -> None:
    _xyz(tmp_path / "other.xyz", "Si")
    other = "<ffsocket name='other' mode='unix'><address>b</address></ffsocket>"
    ours = SYSTEM.format(beads=1, mode="xyz", file="init.xyz", forces="mix")
    theirs = SYSTEM.format(beads=1, mode="xyz", file="other.xyz", forces="{}")
    sockets = SOCKET.format(more="") + other + "<fflj name='lj'/>"
    for name in ("other", "lj"):
        assert _said(tmp_path, sockets=sockets, systems=ours + theirs.format(name)) == []
    assert len(_said(tmp_path, sockets=sockets, systems=ours + theirs.format("mix"))) == 1


def test_an_active_list_picks_the_atoms_that_are_sent(tmp_path: Path) -> None:
    _xyz(tmp_path / "more.xyz", "Si", "W", "Si", "He", "W")
    system = SYSTEM.format(beads=1, mode="xyz", file="more.xyz", forces="mix")
    active = SOCKET.format(more="<activelist> [ 1, 3, 4 ] </activelist>")
    assert _said(tmp_path, sockets=active, systems=system) == []


def test_addresses_must_be_the_same(tmp_path: Path) -> None:
    (one,) = _said(tmp_path, address='"unix:b"')
    assert "make them the same" in one
    inet = "<ffsocket name='mix'><address>{}</address><port>4000</port></ffsocket>"
    for bound, reached, fine in (
        (ANY, "node7:4000", True),
        ("node7", "node7:4000", True),
        ("node7", "node8:4000", False),
        (ANY, "node7:4001", False),
    ):
        said = _said(tmp_path, sockets=inet.format(bound), address=f'"{reached}"\ninsecure = true')
        assert (said == []) == fine


@pytest.mark.parametrize(
    ("region", "beads", "announced", "batch", "fine"),
    [
        (ATOMS, 4, "ignored", 2, True),  # no memory
        (f"{ATOMS}\n{HYSTERESIS}", 1, "ignored", 1, True),
        (f"{ATOMS}\n{HYSTERESIS}", 1, "ignored", 4, True),
        (f"{ATOMS}\n{HYSTERESIS}", 4, "ignored", 1, False),
        (f"{ATOMS}\n{HYSTERESIS}", 4, "ignored", 2, False),
        (f"{ATOMS}\n{HYSTERESIS}", 4, "ignored", 4, False),  # i-PI may send parts of a batch
        (f"{ATOMS}\n{HYSTERESIS}", 4, "announced", 1, True),
        (f"{ATOMS}\n{HYSTERESIS}", 4, "announced", 2, False),
        (CRITERION, 4, "ignored", 1, False),
        (CRITERION, 4, "announced", 1, True),
    ],
)
def test_memory_needs_beads_that_can_be_told_apart(
    tmp_path: Path, region: str, beads: int, announced: str, batch: int, *, fine: bool
) -> None:
    said = _said(
        tmp_path,
        region=region,
        beads=announced,
        sockets=SOCKET.format(more=f"<batch_size>{batch}</batch_size>"),
        systems=SYSTEM.format(beads=beads, mode="xyz", file="init.xyz", forces="mix"),
    )
    assert (said == []) == fine
    if not fine:
        assert "memory per bead" in said[0]
        assert "set upstream.beads = 'announced'" in said[0]
        assert ("<batch_size>" in said[0]) == (batch > 1)


@pytest.mark.parametrize(("announced", "fine"), [("ignored", False), ("announced", True)])
@pytest.mark.parametrize("region", [CRITERION, f"{ATOMS}\n{HYSTERESIS}"])
@pytest.mark.parametrize("template", [True, False])
def test_replicas_need_memories_of_their_own(
    tmp_path: Path, region: str, announced: str, *, template: bool, fine: bool
) -> None:
    one = SYSTEM.format(beads=1, mode="xyz", file="init.xyz", forces="mix")
    made = (
        "<system_template><labels> [ NAME ] </labels><instance> [ a ] </instance>"
        "<instance> [ b ] </instance><instance> [ c ] </instance>"
        "<template>" + one.replace("<system>", "<system prefix='NAME'>") + "</template>"
        "</system_template>"
    )
    said = _said(tmp_path, region=region, beads=announced, systems=made if template else 3 * one)
    assert (said == []) == fine
    assert all("forces on 3 beads (of all systems" in words for words in said)


@pytest.mark.parametrize(("announced", "fine"), [("ignored", False), ("announced", True)])
def test_several_addresses_share_bead_0_unless_it_is_announced(
    tmp_path: Path, announced: str, *, fine: bool
) -> None:
    other = "<ffsocket name='other' mode='unix'><address>b</address></ffsocket>"
    system = SYSTEM.format(beads=1, mode="xyz", file="init.xyz", forces="mix")
    said = _said(
        tmp_path,
        region=f"{ATOMS}\n{HYSTERESIS}",
        beads=announced,
        address='["unix:a", "unix:b"]',
        sockets=SOCKET.format(more="") + other,
        systems=system.replace("</forces>", "<force forcefield='other'/></forces>"),
    )
    assert (said == []) == fine


@pytest.mark.parametrize(
    ("address", "beads", "fine"),
    [
        ('"unix:a"\nchannels = { cheap = "unix:b" }', 1, True),
        ('[]\nchannels = { correction = "unix:a", cheap = "unix:b" }', 1, True),
        ('[]\nchannels = { correction = "unix:a", cheap = "unix:b" }', 2, False),
        ('["unix:a", "unix:b"]', 1, False),
    ],
)
def test_the_cheap_channel_has_no_memory(
    tmp_path: Path, address: str, beads: int, *, fine: bool
) -> None:
    cheap = (
        "<ffsocket name='cheap' mode='unix'><address>b</address><batch_size>8</batch_size>"
        "</ffsocket>"
    )
    system = SYSTEM.format(beads=8, mode="xyz", file="init.xyz", forces="cheap")
    said = _said(
        tmp_path,
        region=f"{ATOMS}\n{HYSTERESIS}",
        address=address,
        sockets=SOCKET.format(more="") + cheap,
        systems=system.replace("</forces>", f"<force forcefield='mix' nbeads='{beads}'/></forces>"),
    )
    assert (said == []) == fine


def test_another_cell_is_a_warning_and_no_error(tmp_path: Path) -> None:
    _xyz(tmp_path / "wide.xyz", "W", "He", "W", cell=10.0)
    system = SYSTEM.format(beads=1, mode="xyz", file="wide.xyz", forces="mix")
    assert _said(tmp_path, systems=system) == []
    findings = check_files(load_case(tmp_path))[0]
    assert [f.level for f in findings if "another cell" in f.message] == ["warning"]


@pytest.mark.parametrize(
    ("beads", "motions", "wrong"),
    [
        (1, ["mode='dynamics'", DYNAMICS.format("nvt", "", "langevin")], None),
        (2, [MD, DYNAMICS.format("nvt", "", "langevin")], "has 2 beads"),
        (1, [MD, DYNAMICS.format("nvt", "", "svr")], "has <thermostat mode='svr'>"),
        (1, [MD, DYNAMICS.format("nvt", "", "multi")], "has <thermostat mode='multi'>"),
        (1, [MD, f"<dynamics mode='nvt'>{STEP}</dynamics>"], "has <thermostat mode=''>"),
        (1, [MD, DYNAMICS.format("npt", NPT, "langevin")], "has <dynamics mode='npt'>"),
        (1, [MD, f"<dynamics mode='npt'>{STEP}{NPT}</dynamics>"], "has <dynamics mode='npt'>"),
        (1, ["mode='neb'", ""], "has <motion mode='neb'>"),
        (1, ["mode='multi'", 2 * f"<motion {MD}/>"], "has 1 <system>s and 3 <motion>s"),
    ],
)
def test_a_thermostat_outside_the_core_must_be_possible(
    tmp_path: Path, beads: int, motions: list[str], wrong: str | None
) -> None:
    system = SYSTEM.format(beads=beads, mode="xyz", file="init.xyz", forces="mix")
    system = system.replace("</system>", "<motion {}>{}</motion></system>".format(*motions))
    assert _said(tmp_path, systems=system) == []
    said = _said(tmp_path, systems=system, bath="cheap")
    assert [f"'cheap', but input.xml {wrong}; only" in one for one in said] == [True] * bool(wrong)


def test_a_thermostat_outside_the_core_needs_one_system(tmp_path: Path) -> None:
    motion = f"<motion {MD}>" + DYNAMICS.format("nvt", "", "langevin") + "</motion></system>"
    system = SYSTEM.format(beads=1, mode="xyz", file="init.xyz", forces="mix")
    (one,) = _said(tmp_path, systems=2 * system.replace("</system>", motion), bath="cheap")
    assert "has 2 <system>s and 2 <motion>s" in one
