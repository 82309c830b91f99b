"""What i-PI can do with a stock driver, it can do through mixserver: the same input, twice.

Once the driver is connected to i-PI itself, once to mixserver's door with mixserver in between;
what i-PI prints must be the same, extras included.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ipi_cases import unique
from ipi_program import ipi_program
from limits import HANG_S

BIN = Path(sys.executable).parent
PES = Path(__file__).with_name("periodic_pes.py")
LOPSIDED = Path(__file__).with_name("lopsided_pes.py")
PRINTED = 2e-7
"""Relative: i-PI prints eight digits, and units are converted twice on the way."""

STRUCTURE = """6
# CELL(abcABC): 6.0 5.5 7.0 85.0 75.0 65.0 positions{angstrom} cell{angstrom}
W  0.3 0.2 0.1
W  2.9 0.1 0.3
W  1.1 2.6 0.2
W  4.3 2.5 3.1
He 0.5 0.4 3.6
He 9.1 -7.5 3.3
"""
MOLECULE = """7
# CELL(abcABC): 9.0 9.0 9.0 90.0 90.0 90.0 positions{angstrom} cell{angstrom}
O  -1.19 0.03 -0.02
O   1.20 -0.02 0.04
H   0.01 0.05 -0.03
H  -1.60 0.80 -0.30
H  -1.70 -0.75 0.20
H   1.65 -0.35 0.80
H   1.72 0.30 -0.78
"""
FRAME = """<simulation verbosity='low'>
<output prefix='simulation'>
<properties stride='1' filename='out'> [ step, {properties} ] </properties>
<trajectory filename='pos' stride='1'> positions </trajectory>{outputs}</output>
<total_steps> {steps} </total_steps><prng> <seed> 31415 </seed> </prng>
{sockets}
{system}
</simulation>"""
SYSTEM = """<system><initialize nbeads='{beads}'>{start}</initialize><forces> {forces} </forces>
<ensemble> {ensemble} </ensemble> <motion {motion} </motion></system>"""
FILE = (
    "<file mode='xyz'> init.xyz </file><velocities mode='thermal' units='kelvin'> 300 </velocities>"
)
NOSE = "<thermostat mode='{0}'> <tau units='femtosecond'> 50 </tau> </thermostat>"
STEP = "<timestep units='femtosecond'> 1.0 </timestep>"
KELVIN = "<temperature units='kelvin'> 300 </temperature>"


def _input(
    motion: str,
    *,
    names: Sequence[str] = ("one",),
    socket: str = "",
    attributes: str = "",
    forces: str = "<force forcefield='one'/>",
    beads: int = 1,
    steps: int = 5,
    ensemble: str = KELVIN,
    properties: str = "conserved, potential, pressure_cv, cell_h",
    outputs: str = "",
    start: str = FILE,
) -> str:
    sockets = "".join(
        f"<ffsocket name='{name}' mode='unix' pbc='false' {attributes}><address> ADDRESS-{name} "
        f"</address>{socket}</ffsocket>"
        for name in names
    )
    system = SYSTEM.format(
        beads=beads, start=start, forces=forces, ensemble=ensemble, motion=motion
    )
    return FRAME.format(
        properties=properties, outputs=outputs, steps=steps, sockets=sockets, system=system
    )


def _dynamics(mode: str, more: str, *, before: str = "") -> str:
    return f"mode='dynamics'> {before} <dynamics mode='{mode}'> {STEP} {more} </dynamics>"


BAROSTAT = "<barostat mode='{0}'> <tau units='femtosecond'> 100 </tau>" + NOSE.format("langevin")
EXTRAS = (
    "<trajectory filename='dipole' stride='1' extra_type='dipole'> extras </trajectory>"
    "<trajectory filename='table' stride='1' extra_type='table'> extras </trajectory>"
    "<trajectory filename='committee' stride='1' extra_type='committee_pot'> extras </trajectory>"
)
CASES = {
    "nvt-with-extras": _input(_dynamics("nvt", NOSE.format("langevin")), outputs=EXTRAS),
    "plain-messages": _input(
        _dynamics("nvt", NOSE.format("svr")),
        socket="<consolidate_messages> False </consolidate_messages>",
    ),
    "npt": _input(
        _dynamics("npt", NOSE.format("langevin") + BAROSTAT.format("flexible") + "</barostat>"),
        ensemble=KELVIN + "<pressure units='megapascal'> 10 </pressure>",
    ),
    "fixed-atoms": _input(
        _dynamics(
            "nvt",
            NOSE.format("langevin"),
            before="<fixcom> False </fixcom><fixatoms> [0, 3] </fixatoms>",
        )
    ),
    "pimd": _input(_dynamics("nvt", NOSE.format("pile_g")), beads=4, outputs=EXTRAS),
    "pimd-batched": _input(
        _dynamics("nvt", NOSE.format("pile_l")), beads=4, socket="<batch_size> 4 </batch_size>"
    ),
    "mts-and-contraction": _input(
        _dynamics("nvt", NOSE.format("pile_l") + "<nmts> [1,4] </nmts>"),
        names=("one", "two"),
        forces=(
            "<force forcefield='one'> <mts_weights> [0,1] </mts_weights> </force>"
            "<force forcefield='two' nbeads='1'> <mts_weights> [1,0] </mts_weights> </force>"
        ),
        beads=4,
    ),
    "minimise": _input(
        "mode='minimize'> <optimizer mode='lbfgs'> <tolerances> <energy> 1e-8 </energy>"
        "<force> 1e-6 </force> <position> 1e-6 </position> </tolerances> </optimizer>",
        properties="potential",
        ensemble="",
        steps=8,
    ),
}
# images of the path are the beads of a run before; i-PI reads them from its RESTART
SLOW = {"neb", "minimise", "plain-messages", "replica-exchange", "pimd"}
"""Run with the longer checks."""
CASES["neb"] = _input(
    "mode='neb'> <neb_optimizer mode='damped_bfgs'> <stage> neb </stage> <tolerances> "
    "<energy> 1e-8 </energy> <force> 1e-6 </force> <position> 1e-6 </position> </tolerances> "
    "</neb_optimizer>",
    start="<file mode='chk'> path.chk </file>",
    beads=4,
    properties="bead_potentials",
    ensemble="",
    steps=4,
).replace("<simulation ", "<simulation mode='static' ")
CASES["replica-exchange"] = (
    CASES["nvt-with-extras"]
    .replace(
        "<system>",
        "<system_template><labels> [IDX,T] </labels><instance> [A,300] </instance>"
        "<instance> [B,330] </instance><template><system prefix='IDX'>",
    )
    .replace(
        "</system>",
        "</system></template></system_template>"
        "<smotion mode='remd'> <remd> <stride> 2 </stride> </remd> </smotion>",
    )
    .replace(" 300 <", " T <")
    # with threads, systems draw from i-PI's one random generator in any order
    .replace("<simulation ", "<simulation threading='False' ")
)


ROTATIONS = "<trajectory filename='grid' stride='1' extra_type='o3grid_pots'> extras </trajectory>"
COMMITTEE = "".join(
    f"<trajectory filename='{name}' stride='1' extra_type='{name}'> extras </trajectory>"
    for name in ("committee_pot", "committee_virial")
)
MINDING = {
    "36-orientations": _input(
        _dynamics("nve", ""), forces="<force forcefield='turned'/>", outputs=ROTATIONS, steps=2
    )
    .replace("<ffsocket", "<ffrotations name='turned'><ffsocket")
    .replace(
        "</ffsocket>",
        "</ffsocket><grid_mode> lebedev </grid_mode><grid_order> 3 </grid_order>"
        "<inversion> True </inversion></ffrotations>",
    ),
    "a-molecule-around-the-origin-and-all-virials-of-a-committee": _input(
        _dynamics("nve", ""),
        names=("one", "two"),
        forces="<force forcefield='both'/>",
        outputs=COMMITTEE,
    )
    .replace("<ffsocket", "<ffcommittee name='both'><ffsocket", 1)
    .replace("</ffsocket>\n<system", "</ffsocket></ffcommittee>\n<system"),
}
"""Inputs with a potential that minds wrapped atoms, turned cells and virials made symmetric."""


def _drivers(
    names: Sequence[str], folder: Path, pes: Path, prefix: str
) -> list[subprocess.Popen[bytes]]:
    return [
        subprocess.Popen(
            [
                *ipi_program("i-pi-driver-py"),
                "-u",
                "-a",
                name,
                "-S",
                prefix,
                "-m",
                "custom",
                "-P",
                pes,
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]


def _wait_for(files: Sequence[Path]) -> None:
    deadline = time.monotonic() + HANG_S
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"{files} did not appear"
        time.sleep(0.02)


def _run(folder: Path, text: str, *, through: bool, minding: bool = False) -> None:
    """Run an input in a folder of its own, with or without mixserver in between."""
    folder.mkdir()
    names = [unique(n) for n in ("one", "two") if f"ADDRESS-{n}" in text]
    for old, new in zip(("ADDRESS-one", "ADDRESS-two"), names, strict=False):
        text = text.replace(old, new)
    (folder / "init.xyz").write_text(MOLECULE if minding else STRUCTURE)
    pes = LOPSIDED if minding else PES
    nested = "</ffsocket></ff" in text or "</ffrotations>" in text
    prefix = "/tmp/ipi_" if nested else f"{folder}/"  # i-PI forgets its own prefix in there
    clients = unique("clients")
    if "path.chk" in text:
        _run(folder / "path", CASES["pimd"], through=False)
        shutil.copy(folder / "path/RESTART", folder / "path.chk")
    (folder / "input.xml").write_text(text)
    addresses = ", ".join(f'"unix:{name}"' for name in names)
    (folder / "mix.toml").write_text(
        f'[upstream]\naddress = [{addresses}]\nstructure = "init.xyz"\n'
        f'sockets_prefix = "{prefix}"\n[models.cheap]\n[workers]\nclients = "unix:{clients}"\n'
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        if through:
            log = (folder / "serve.log").open("wb")
            running.append(
                subprocess.Popen(
                    [BIN / "mixserver", "serve", folder], stdout=log, stderr=subprocess.STDOUT
                )
            )
            log.close()
            _wait_for([Path(prefix + clients)])
            running += _drivers([clients], folder, pes, prefix)
        ipi = subprocess.Popen(
            [*ipi_program(), "-S", f"{folder}/", "input.xml"],
            cwd=folder,
            stdout=(folder / "ipi.log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        running.append(ipi)
        if not through:
            _wait_for([Path(prefix + name) for name in names])
            running += _drivers(names, folder, pes, prefix)
        assert ipi.wait(60) == 0, (folder / "ipi.log").read_text()
        if through:
            assert running[0].wait(20) == 0, (folder / "serve.log").read_text()
    finally:
        for process in running:
            process.kill()
            process.wait()


def _numbers(file: Path) -> list[float]:
    words = [
        word
        for line in file.read_text().splitlines()
        if not line.startswith("#") and "CELL" not in line
        for word in line.split()
    ]
    return [float(word) for word in words if word.replace("e", "").lstrip("-+")[:1].isdigit()]


def _assert_same(folder: Path) -> None:
    """What i-PI printed with and without mixserver in between is the same."""
    printed = sorted((folder / "direct").glob("*simulation.*"))
    printed = [file for file in printed if "chk" not in file.name]
    assert len(printed) >= 2
    for file in printed:
        there, here = _numbers(file), _numbers(folder / "mixed" / file.name)
        assert len(there) > 4
        np.testing.assert_allclose(here, there, rtol=PRINTED, atol=1e-7, err_msg=file.name)


@pytest.mark.parametrize("name", MINDING)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_atoms_cells_and_virials_pass_as_they_are(name: str, tmp_path: Path) -> None:
    _run(tmp_path / "direct", MINDING[name], through=False, minding=True)
    _run(tmp_path / "mixed", MINDING[name], through=True, minding=True)
    _assert_same(tmp_path)
    if name == "36-orientations":
        energies = np.array(_numbers(tmp_path / "mixed/simulation.grid_0"))[-36:]
        assert np.ptp(energies) > 1e-3  # hartree: they do differ


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.physics) if n in SLOW else n for n in CASES],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_ipi_prints_the_same_with_mixserver_in_between(name: str, tmp_path: Path) -> None:
    _run(tmp_path / "direct", CASES[name], through=False)
    _run(tmp_path / "mixed", CASES[name], through=True)
    _assert_same(tmp_path)
