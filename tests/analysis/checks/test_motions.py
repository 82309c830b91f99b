"""Each way in which i-PI moves atoms gets a true sentence; numbers nobody means get a warning."""

from __future__ import annotations

from pathlib import Path

import pytest
from ipi.utils.softexit import softexit

from mixserver.analysis.checks.files import check_files
from mixserver.analysis.checks.findings import Finding
from mixserver.analysis.checks.motions import motion_findings
from mixserver.analysis.checks.quantities import timeout_findings
from mixserver.config import load_case
from mixserver.ipi.input import read_input

ATOMS = '{ kind = "atoms", indices = [0] }'
CRITERION = '{ kind = "criterion", compute = "centro/atom 8", initial = [0] }'


def found(
    folder: Path,
    motion: str,
    *,
    mixing: str = "energy",
    seeds: str = ATOMS,
    follow: bool = False,
    more: str = "",
    system: str = "",
    socket: str = "",
) -> list[Finding]:
    (folder / "init.xyz").write_text(
        "2\n# CELL(abcABC): 9 9 9 90 90 90 positions{angstrom} cell{angstrom}\nW 0 0 0\nW 2 2 2\n"
    )
    (folder / "input.xml").write_text(
        "<simulation><ffsocket name='mix' mode='unix'><address>a</address>"
        f"{socket}</ffsocket><system><initialize nbeads='1'><file mode='xyz'>init.xyz</file>"
        f"{system}</initialize><forces><force forcefield='mix'/></forces>{motion}</system>{more}"
        "</simulation>"
    )
    (folder / "mix.toml").write_text(
        f'[upstream]\naddress = "unix:a"\nstructure = "init.xyz"\n[region]\ncore_radius = 1.0\n'
        f"blend_width = 1.0\nfollow = {str(follow).lower()}\nseeds = {seeds}\n"
        f'[mixing]\nkind = "{mixing}"\n[models.cheap]\n[models.expensive]\n'
    )
    return check_files(load_case(folder))[0]


def sentences(
    folder: Path, motion: str, *, mixing: str = "energy", seeds: str = ATOMS
) -> list[Finding]:
    """What is said of motions alone, whatever i-PI itself thinks of so short an input."""
    found(folder, motion, mixing=mixing, seeds=seeds)
    return motion_findings(load_case(folder), read_input(folder / "input.xml"))


def motion_of(mode: str) -> str:
    if mode in {"nve", "nvt", "npt", "nst", "sc", "scnpt", "nvt-cc"}:
        return (
            f"<motion mode='dynamics'><dynamics mode='{mode}'>"
            "<timestep units='femtosecond'> 1 </timestep></dynamics></motion>"
        )
    return f"<motion mode='{mode}'/>"


MODES = [
    "nve",
    "nvt",
    "npt",
    "nst",
    "sc",
    "scnpt",
    "nvt-cc",
    "minimize",
    "neb",
    "string",
    "instanton",
    "vibrations",
    "normalmodes",
    "scp",
    "planetary",
    "replay",
    "t_ramp",
    "p_ramp",
    "dummy",
]


def test_no_mode_has_the_sentence_of_another(tmp_path: Path) -> None:
    for mixing in ("energy", "force"):
        for mode in MODES:
            told = sentences(tmp_path, motion_of(mode), mixing=mixing)
            (one,) = (f for f in told if f.what in {"ensemble", mode})
            untested = mode not in {"nve", "nvt", "npt", "minimize", "neb", "dummy"}
            if one.level == "ok" and mode != "dummy":
                assert ("untested" in one.message) == untested, one.message


@pytest.mark.parametrize("mode", ["minimize", "neb", "string", "instanton", "vibrations", "scp"])
def test_what_looks_for_one_surface_must_not_have_it_change(tmp_path: Path, mode: str) -> None:
    (one,) = (f for f in sentences(tmp_path, motion_of(mode), seeds=CRITERION) if f.what == mode)
    assert one.level == "warning"
    assert "a criterion chooses the region" in one.message
    (other,) = (f for f in sentences(tmp_path, motion_of(mode), mixing="force") if f.what == mode)
    assert "not the gradient" in other.message


def test_a_motion_that_ipi_stops_at_is_refused_and_nothing_stays_stopped(tmp_path: Path) -> None:
    wrong = [f.message for f in found(tmp_path, motion_of("string")) if f.level == "error"]
    assert len(wrong) == 1
    assert "String method is experimental" in wrong[0]
    assert not softexit.triggered
    assert [f for f in found(tmp_path, motion_of("nve")) if f.level == "error"] == []


def test_replica_exchange_is_told_of_by_its_smotion(tmp_path: Path) -> None:
    smotion = (
        "<smotion mode='multi'><smotion mode='remd'><remd><stride> 1 </stride></remd></smotion>"
        "</smotion>"
    )
    told = found(tmp_path, motion_of("nvt"), more=smotion, mixing="force")
    assert [f.level for f in told if f.what == "remd"] == ["warning"]
    told = found(tmp_path, motion_of("nvt"), more=smotion)
    assert any(f.message.startswith("remd: energy mixing") for f in told)


def exchange(mode: str, names: str) -> str:
    return f"<motion mode='{mode}'><{mode}><names> [ {names} ] </names></{mode}></motion>"


@pytest.mark.parametrize(
    ("mode", "names", "mixing", "follow", "fine"),
    [
        ("atomswap", "W, He", "energy", False, False),
        ("atomswap", "W, He", "force", False, False),
        ("atomswap", "W, He", "energy", True, True),
        ("alchemy", "H, D", "energy", False, True),
        ("alchemy", "H, D, T", "force", False, True),
        ("alchemy", "H, W", "energy", True, False),
        ("alchemy", "H, Xx", "energy", False, False),
    ],
)
def test_exchanges_of_atoms_are_refused_where_the_region_cannot_follow(
    tmp_path: Path, mode: str, names: str, mixing: str, *, follow: bool, fine: bool
) -> None:
    told = found(tmp_path, exchange(mode, names), mixing=mixing, follow=follow)
    wrong = [f.message for f in told if f.what == "exchanges" and f.level == "error"]
    assert (wrong == []) == fine
    assert all(f"<motion mode='{mode}'>" in words for words in wrong)


@pytest.mark.parametrize(
    ("timestep", "said"),
    [
        (
            "<timestep units='femtosecond'> 500 </timestep>",
            "<timestep> is 500 femtosecond: too long",
        ),
        ("<timestep units='femtosecond'> 0.001 </timestep>", "so short that a run never ends"),
        ("<timestep> 5 </timestep>", "takes atomic units: 0.121 femtosecond; write units='femto"),
        ("<timestep units='femtosecond'> 10 </timestep>", ""),
        ("<timestep units='picosecond'> 0.001 </timestep>", ""),
        ("<timestep units='atomic_unit'> 5 </timestep>", ""),
    ],
)
def test_an_implausible_time_step_is_reported(tmp_path: Path, timestep: str, said: str) -> None:
    motion = f"<motion mode='dynamics'><dynamics mode='nve'>{timestep}</dynamics></motion>"
    told = [f for f in found(tmp_path, motion) if f.what == "timestep"]
    assert [f.level for f in told] == (["warning"] if said else [])
    assert all(said in f.message for f in told)


def test_tolerances_without_units_are_no_slip(tmp_path: Path) -> None:
    motion = (
        "<motion mode='minimize'><optimizer mode='bfgs'><tolerances><energy> 1e-6 </energy>"
        "<force> 1e-4 </force></tolerances></optimizer></motion>"
    )
    assert [f for f in found(tmp_path, motion) if f.level == "warning"] == []


@pytest.mark.parametrize(("timeout", "warned"), [("60", True), ("200", False), ("0", False)])
def test_a_timeout_is_compared_with_what_an_answer_takes(
    tmp_path: Path, timeout: str, *, warned: bool
) -> None:
    socket = f"<timeout> {timeout} </timeout>"
    found(tmp_path, motion_of("nve"), socket=socket)
    ipi = read_input(tmp_path / "input.xml")
    assert ipi.sockets[0].timeout_s == float(timeout)
    told = timeout_findings(load_case(tmp_path), ipi, 30.0)
    assert [f.what for f in told] == ["timeout"] * warned
