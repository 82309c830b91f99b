"""A thermostat that leaves the core alone, in a real i-PI.

The crystal is a cubic lattice of springs with a quartic part; everything about it is known exactly.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from command_here import mixserver_here
from command_line import mixserver
from ipi_cases import unique
from ipi_program import ipi_program
from limits import HANG_S

from mixserver.analysis.records import read_reports
from mixserver.ipi.output import read_columns
from mixserver.ipi.session import Session
from mixserver.wire.ipi import Reply, Request

INPUTS = Path(__file__).parents[2] / "inputs"
I_PI = ipi_program()
OURS = [sys.executable, "-P", "-m", "mixserver.ipi.host", "--cheap-thermostat"]
SIDE, SPACING = 4, 3.0
ATOMS = SIDE**3
SPRING, QUARTIC = 1.0, 2.0
"""eV/Å² and eV/Å⁴ of the springs between neighbours."""
KELVIN = 300.0

XML = """<simulation verbosity='low' safe_stride='{safe}'>
<output prefix='simulation'>
<properties stride='{stride}' filename='out'> [ step, time{{picosecond}}, conserved{{kelvin}},
 temperature{{kelvin}}, kinetic_md{{kelvin}} ] </properties>
{trajectories}</output>
<total_steps> {steps} </total_steps><prng> <seed> 31415 </seed> </prng>
{sockets}
<system><initialize nbeads='{beads}'><file mode='xyz'> init.xyz </file>
<velocities mode='thermal' units='kelvin'> 300 </velocities></initialize>
<forces> {forces} </forces>
<ensemble> <temperature units='kelvin'> 300 </temperature> {ensemble} </ensemble>
<motion mode='dynamics'> <fixcom> {fixcom} </fixcom> {motion}
<dynamics mode='{mode}' splitting='{splitting}'> <timestep units='femtosecond'> 2 </timestep>
<thermostat mode='{bath}'> <tau units='femtosecond'> {tau} </tau> </thermostat> {more}
</dynamics></motion></system></simulation>"""


VELOCITIES = "<trajectory filename='vel' stride='1'> velocities </trajectory>"


def _sites() -> np.ndarray:
    grid = np.arange(SIDE) * SPACING
    return np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)


def crystal(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å): springs of no length between displaced neighbours."""
    away = (positions - _sites()).reshape(SIDE, SIDE, SIDE, 3)
    energy, forces = 0.0, np.zeros_like(away)
    for axis in range(3):
        stretch = np.roll(away, -1, axis) - away
        square = (stretch**2).sum(axis=-1, keepdims=True)
        energy += float((0.5 * SPRING * square + 0.25 * QUARTIC * square**2).sum())
        pull = (SPRING + QUARTIC * square) * stretch
        forces += pull - np.roll(pull, 1, axis)
    return energy, forces.reshape(-1, 3)


LambdaReader = Callable[[Request], tuple[list[int], list[float]] | None]


@dataclass
class Driver:
    """Answers one socket, some part of the crystal's energy, and sends lambda along."""

    lambdas: LambdaReader
    part: float = 1.0
    only: list[int] = field(default_factory=list)
    """The atoms it is sent, if not all; it pulls at none of these."""
    name: str = field(default_factory=lambda: unique("bath"))
    asked: list[np.ndarray] = field(default_factory=list)

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request.positions.copy())
        if self.only:
            energy, forces = 0.0, np.zeros((len(self.only), 3))
        else:
            energy, forces = crystal(request.positions)
        said = self.lambdas(request)
        extras: dict[str, object] = {"core": 1.0}
        if said is not None:
            extras |= {"lambda_atoms": said[0], "lambda_values": said[1]}
        return Reply(self.part * energy, self.part * forces, np.zeros((3, 3)), json.dumps(extras))

    @property
    def socket(self) -> str:
        return (
            f"<ffsocket name='{self.name}' mode='unix' pbc='false'><address>{self.name}</address>"
            f"{f'<activelist> {self.only} </activelist>' if self.only else ''}</ffsocket>"
        )


def nobody(_: Request) -> tuple[list[int], list[float]]:
    return [], []


def half(_: Request) -> tuple[list[int], list[float]]:
    """Two layers are core, then one is blend, one bulk."""
    layer = ATOMS // SIDE
    return list(range(3 * layer)), [1.0] * (2 * layer) + [0.7] * layer


def write(folder: Path, *drivers: Driver, forces: str = "", **changes: object) -> None:
    """Write an input and its structure."""
    words = {
        "steps": 20,
        "stride": 1,
        "trajectories": VELOCITIES,
        "safe": 1,
        "beads": 1,
        "fixcom": "False",
        "motion": "",
        "mode": "nvt",
        "splitting": "baoab",
        "bath": "langevin",
        "tau": 50,
        "more": "",
        "ensemble": "",
        "sockets": "".join(driver.socket for driver in drivers),
        "forces": forces or f"<force forcefield='{drivers[0].name}'/>",
    }
    folder.mkdir(exist_ok=True)
    (folder / "input.xml").write_text(XML.format(**(words | changes)))
    box = SIDE * SPACING
    rows = "".join(f"Si {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in _sites())
    comment = f"# CELL(abcABC): {box} {box} {box} 90 90 90 positions{{angstrom}} cell{{angstrom}}"
    (folder / "init.xyz").write_text(f"{ATOMS}\n{comment}\n{rows}")


async def run(folder: Path, program: list[str], *drivers: Driver, what: str = "input.xml") -> int:
    """Run i-PI with these drivers; its exit status. What it said is in i-pi.log."""
    prefix = f"{folder}/s_"
    with (folder / "i-pi.log").open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *(*program, "-S", prefix, what),
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    serving = [
        asyncio.ensure_future(
            Session(
                f"unix:{driver.name}", driver.answer, sockets_prefix=prefix, force_timeout_s=60.0
            ).run()
        )
        for driver in drivers
    ]
    try:
        return await asyncio.wait_for(process.wait(), 280.0)
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        if process.returncode is None:
            process.kill()
            await process.wait()


def velocities(folder: Path) -> np.ndarray:
    """(frames, N, 3) in atomic units, as printed."""
    lines = (folder / "simulation.vel_0.xyz").read_text().splitlines()
    rows = [line.split()[1:4] for at, line in enumerate(lines) if at % (ATOMS + 2) > 1]
    return np.array(rows, dtype=np.float64).reshape(-1, ATOMS, 3)


def log(folder: Path) -> str:
    return (folder / "i-pi.log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("splitting", "more", "fixed"),
    [
        ("baoab", {"motion": "<fixatoms> [ 0, 5 ] </fixatoms>"}, 6),
        ("obabo", {"fixcom": "True"}, 3),
    ],
)
async def test_without_a_core_it_is_the_langevin_thermostat_of_ipi(
    tmp_path: Path, splitting: str, more: dict[str, str], fixed: int
) -> None:
    printed = []
    for program in (I_PI, OURS):
        folder = tmp_path / str(len(printed))
        folder.mkdir()
        driver = Driver(nobody)
        write(folder, driver, splitting=splitting, **more)
        assert await run(folder, program, driver) == 0, log(folder)
        assert len(driver.asked) == 21  # nothing is evaluated for the thermostat alone
        printed.append(
            [np.loadtxt(folder / "simulation.out"), np.array(driver.asked), velocities(folder)]
        )
    for theirs, ours in zip(*printed, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-12)
    found = read_columns(tmp_path / "1/temperature.out")
    assert found["step"].tolist() == list(range(21))
    assert found["atoms_bulk"].tolist() == [ATOMS] * 21
    assert np.isnan(found["T_core"]).all()
    # i-PI counts what cannot move as if it had the temperature of the bath
    share = fixed / (3 * ATOMS)
    whole = np.loadtxt(tmp_path / "1/simulation.out")[:, 3]
    np.testing.assert_allclose((1 - share) * found["T_bulk"] + share * KELVIN, whole, rtol=1e-7)


@pytest.mark.parametrize("splitting", ["obabo", pytest.param("baoab", marks=pytest.mark.physics)])
async def test_a_restart_goes_on_as_if_nothing_had_been(tmp_path: Path, splitting: str) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for folder, steps in ((straight, 12), (broken, 6)):
        folder.mkdir()
        driver = Driver(half)
        write(folder, driver, splitting=splitting, steps=steps)
        assert await run(folder, OURS, driver) == 0, log(folder)
    restart = (broken / "RESTART").read_text()
    assert "<thermostat mode='langevin'>" in restart
    old = driver.name
    driver = Driver(half)
    (broken / "more.xml").write_text(
        restart.replace(old, driver.name).replace(
            "<total_steps>6</total_steps>", "<total_steps>12</total_steps>"
        )
    )
    assert await run(broken, OURS, driver, what="more.xml") == 0, log(broken)
    assert len(driver.asked) == 7  # one per step, and where it began
    np.testing.assert_allclose(
        np.loadtxt(broken / "simulation.out"), np.loadtxt(straight / "simulation.out"), rtol=1e-7
    )
    ours, whole = (read_columns(folder / "temperature.out") for folder in (broken, straight))
    for name, values in whole.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-6, err_msg=name)
    assert (broken / "temperature.out").read_text().count("column   1") == 1


async def test_the_core_feels_no_thermostat_and_the_blend_less(tmp_path: Path) -> None:
    """Under a bath that forgets everything in a step, what remains of a velocity says it all."""
    driver = Driver(half)
    free = f"<force forcefield='{driver.name}' weight='1e-30'/>"  # lambda, but no forces
    write(tmp_path, driver, splitting="obabo", steps=1, tau=0.5, forces=free)
    assert await run(tmp_path, OURS, driver) == 0, log(tmp_path)
    before, after = velocities(tmp_path)
    layer = ATOMS // SIDE
    core, blend, bulk = (slice(0, 2 * layer), slice(2 * layer, 3 * layer), slice(3 * layer, None))
    assert np.array_equal(after[core], before[core])
    kept = [float((after[at] * before[at]).sum() / (before[at] ** 2).sum()) for at in (blend, bulk)]
    scatter = 1.0 / np.sqrt(3 * layer)
    assert kept[0] == pytest.approx(np.exp(-0.3 * 2.0 / 0.5), abs=4 * scatter)
    assert kept[1] == pytest.approx(np.exp(-2.0 / 0.5), abs=4 * scatter)


@pytest.mark.parametrize("splitting", ["obabo", "baoab"])
async def test_lambda_is_that_of_the_last_forces_under_multiple_time_steps(
    tmp_path: Path, splitting: str
) -> None:
    """Two components; lists of a new length every time, from the outer one only."""
    count = iter(range(1000))
    changing = Driver(lambda _: (list(range(k := next(count) % 7)), [1.0] * k), part=0.5)
    silent = Driver(lambda _: None, part=0.5)
    forces = (
        f"<force forcefield='{silent.name}'><mts_weights> [ 0, 1 ] </mts_weights></force>"
        f"<force forcefield='{changing.name}'><mts_weights> [ 1, 0 ] </mts_weights></force>"
    )
    write(
        tmp_path, silent, changing, forces=forces, splitting=splitting, more="<nmts> [1,3] </nmts>"
    )
    assert await run(tmp_path, OURS, silent, changing) == 0, log(tmp_path)
    assert (len(silent.asked), len(changing.asked)) == (61, 21)
    found = read_columns(tmp_path / "temperature.out")
    assert found["atoms_core"].tolist() == [at % 7 for at in range(21)]


async def test_lambda_is_of_the_atoms_that_are_sent(tmp_path: Path) -> None:
    """The server counts the atoms of an <activelist> from 0; all others are bulk."""
    whole, some = Driver(lambda _: None), Driver(lambda _: ([1, 2], [1.0, 0.5]), only=[7, 5, 3])
    forces = f"<force forcefield='{whole.name}'/><force forcefield='{some.name}'/>"
    write(tmp_path, whole, some, forces=forces, splitting="obabo", steps=1)
    assert await run(tmp_path, OURS, whole, some) == 0, log(tmp_path)
    found = read_columns(tmp_path / "temperature.out")
    assert (found["atoms_core"][-1], found["atoms_blend"][-1]) == (1, 1)
    before = velocities(tmp_path)[0]
    mass = 28.0855 * 1822.888486
    core = 0.5 * mass * (before[5] ** 2).sum() * 315774.66  # K; as it was before the first step
    assert found["T_core"][0] == pytest.approx(core / 1.5, rel=1e-5)


async def test_forces_without_lambda_end_the_run_in_words(tmp_path: Path) -> None:
    count = iter(range(1000))
    driver = Driver(lambda _: ([1], [1.0]) if next(count) < 5 else None)
    write(tmp_path, driver)
    assert await run(tmp_path, OURS, driver) == 1
    said = log(tmp_path)
    assert "no forcefield sent them (extras that came:" in said
    assert "Traceback" not in said
    assert "<step>4</step>" in (tmp_path / "RESTART").read_text().replace(" ", "")
    assert read_columns(tmp_path / "temperature.out")["step"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bath": "svr"}, "the thermostat is ThermoSVR"),
        ({"bath": "pile_l", "beads": 2}, "the thermostat is ThermoPILE_L"),
        ({"beads": 2}, "there are 2 beads"),
        ({"mode": "nve"}, "the dynamics are 'nve'"),
        (
            {
                "mode": "npt",
                "more": "<barostat mode='isotropic'><thermostat mode='langevin'><tau> 9 </tau>"
                "</thermostat></barostat>",
                "ensemble": "<pressure> 0 </pressure>",
            },
            "the dynamics are 'npt'",
        ),
    ],
)
def test_what_cannot_leave_the_core_alone_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    write(tmp_path, Driver(nobody), **changes)
    done = subprocess.run(
        [*OURS, "input.xml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 1
    assert f"not possible here: {said}. It needs one <system>" in done.stderr
    assert not (tmp_path / "simulation.out").exists()


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the minimal case whose thermostat leaves the core alone."""
    folder = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
    with (folder / "mix.toml").open("a") as file:
        file.write('\n[ipi]\nthermostat = "cheap"\n')
    return folder


def test_mixserver_runs_it_and_restarts_it(case: Path) -> None:
    first = mixserver("run", case, "--steps", "6")
    assert first.returncode == 0, first.stderr
    second = mixserver("run", case, "--restart", "--steps", "10")
    assert second.returncode == 0, second.stderr
    for number, steps in ((1, range(7)), (2, range(7, 11))):
        folder = case / f"runs/{number:04d}"
        found = read_columns(folder / "temperature.out")
        assert found["step"].tolist() == list(steps)
        reports = read_reports(folder)[-len(steps) :]
        assert found["atoms_core"].tolist() == [report.core for report in reports]
        assert found["atoms_blend"].tolist() == [report.blend for report in reports]
        assert (found["T_bulk"] > 0).all()
        assert "<thermostat mode='langevin'>" in (folder / "RESTART").read_text()


def test_mixserver_refuses_it_before_anything_is_started(case: Path) -> None:
    text = (case / "input.xml").read_text()
    (case / "input.xml").write_text(text.replace("mode='langevin'", "mode='svr'"))
    done = mixserver_here("run", case)
    assert done.returncode == 1
    assert "has <thermostat mode='svr'>; only the" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    checked = mixserver_here("check", case, "--quick")
    assert checked.returncode == 1
    assert "has <thermostat mode='svr'>; only the" in " ".join(checked.stdout.split())


def _mean(values: np.ndarray, blocks: int = 20) -> tuple[float, float]:
    """Mean, and its error from blocks that are longer than what remembers itself."""
    means = [part.mean() for part in np.array_split(values, blocks)]
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(blocks))


async def _long(folder: Path, program: list[str], steps: int) -> None:
    driver = Driver(half)
    write(folder, driver, steps=steps, stride=4, safe=steps, trajectories="")
    assert await run(folder, program, driver) == 0, log(folder)


def _assert_bath(folder: Path, error_below: float) -> None:
    found = read_columns(folder / "temperature.out")
    settled = found["time"] > 1.0
    for name in ("T_core", "T_blend", "T_bulk"):
        mean, error = _mean(found[name][settled])
        assert error < error_below * KELVIN
        assert mean == pytest.approx(KELVIN, abs=4.0 * error), (name, mean, error)
    assert set(zip(found["atoms_core"], found["atoms_blend"], strict=True)) == {(32, 16)}


@pytest.mark.physics
async def test_core_blend_and_bulk_have_the_temperature_of_the_bath(tmp_path: Path) -> None:
    """The core has no friction, and still its heat is right: it comes from around it."""
    await _long(tmp_path / "ours", OURS, 4000)
    _assert_bath(tmp_path / "ours", 0.08)


@pytest.mark.physics
@pytest.mark.timeout(600)
async def test_the_conserved_quantity_is_as_good_as_under_the_thermostat_of_ipi(
    tmp_path: Path,
) -> None:
    drifts, scatters = [], []
    for program in (I_PI, OURS):
        folder = tmp_path / str(len(drifts))
        await _long(folder, program, 30000)
        time, conserved = np.loadtxt(folder / "simulation.out")[:, [1, 2]].T
        line = np.polyfit(time, conserved, 1)
        drifts.append(line[0] / ATOMS)
        scatters.append(np.std(conserved - np.polyval(line, time)) / ATOMS)
    _assert_bath(tmp_path / "1", 0.03)
    assert np.abs(drifts).max() < 0.01, drifts  # K/atom/ps
    assert scatters[1] == pytest.approx(scatters[0], rel=0.2)
