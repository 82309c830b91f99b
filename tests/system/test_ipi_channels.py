"""Multiple time stepping and ring-polymer contraction over the channels, as a user runs them.

Argon again: a weak and a strong Lennard-Jones potential in worker processes, and a real i-PI.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import fcc
from ipi_cases import unique
from ipi_program import ipi_program
from limits import HANG_S

from mixserver.analysis.records import read_reports
from mixserver.ipi.output import read_columns

BIN = Path(sys.executable).parent
PES = Path(__file__).with_name("toy_pes.py")
PRINTED = 2e-7
"""Relative: i-PI prints eight digits."""
CHEAP, EXPENSIVE = 0.0104, 0.0120
REGION = 'core_radius = 3.0\nblend_width = 2.5\nseeds = { kind = "atoms", indices = [0] }\n'
FOLLOW = f"{REGION}follow = true\n"
EVERYTHING = 'core_radius = 50.0\nblend_width = 0.0\nseeds = { kind = "atoms", indices = [0] }\n'
ONLY_MIXED = "<force forcefield='mixed'/>"
SPLIT = (
    "<force forcefield='cheap'> <mts_weights> [0,1] </mts_weights> </force>"
    "<force forcefield='correction' {more}> <mts_weights> [1,0] </mts_weights> </force>"
)
FULL_OUTSIDE = (
    "<force forcefield='cheap'> <mts_weights> [-1,1] </mts_weights> </force>"
    "<force forcefield='mixed'> <mts_weights> [1,0] </mts_weights> </force>"
)
RINGS = "<thermostat mode='pile_l'> <tau units='femtosecond'> 100 </tau> </thermostat>"


def _input(
    forcefields: str, forces: str, *, steps: int, fs: float, beads: int, dynamics: str
) -> str:
    mode = "nvt" if "thermostat" in dynamics else "nve"
    return f"""<simulation verbosity='low'>
<output prefix='simulation'>
<properties stride='1' filename='out'>
 [ step, conserved{{electronvolt}}, potential{{electronvolt}}, kinetic_cv{{electronvolt}} ]
</properties>
<trajectory filename='pos' stride='1'> positions </trajectory></output>
<total_steps> {steps} </total_steps><prng> <seed> 31415 </seed> </prng>
{forcefields}
<system><initialize nbeads='{beads}'><file mode='xyz'> init.xyz </file>
<velocities mode='thermal' units='kelvin'> 60 </velocities></initialize>
<forces> {forces} </forces>
<ensemble> <temperature units='kelvin'> 40 </temperature> </ensemble>
<motion mode='dynamics'><dynamics mode='{mode}'> <timestep units='femtosecond'> {fs} </timestep>
{dynamics} </dynamics></motion></system></simulation>"""


def _write(folder: Path, text: str) -> None:
    folder.mkdir()
    frame = fcc(3, 5.3, rattle=0.05)
    length = frame.cell[0, 0]
    rows = "\n".join("Ar " + " ".join(f"{x:.12f}" for x in row) for row in frame.positions)
    (folder / "init.xyz").write_text(
        f"{len(frame)}\n# CELL(abcABC): {length} {length} {length} 90 90 90 positions{{angstrom}} "
        f"cell{{angstrom}}\n{rows}\n"
    )
    (folder / "input.xml").write_text(text)


def _mix(
    folder: Path,
    channels: Sequence[str],
    forces: str,
    *,
    region: str = FOLLOW,
    kind: str = "energy",
    steps: int = 6,
    fs: float = 4.0,
    beads: int = 1,
    batch: Mapping[str, int] | int = 1,
    connections: int = 1,
    dynamics: str = "",
    expensive: str = "",
    count: int = 1,
) -> Path:
    """Run a case of mixserver, and give its run's folder."""
    names = {channel: unique(channel) for channel in channels}
    sizes = batch if isinstance(batch, Mapping) else dict.fromkeys(channels, batch)
    sockets = "".join(
        f"<ffsocket name='{channel}' mode='unix' pbc='false'><address> {name} </address>"
        f"<batch_size> {sizes[channel]} </batch_size></ffsocket>"
        for channel, name in names.items()
    )
    _write(
        folder,
        _input(sockets, forces, steps=steps, fs=fs, beads=beads, dynamics=dynamics),
    )
    keys = [
        f"{'' if channel == 'mixed' else 'channels.'}"
        f'{"address" if channel == "mixed" else channel} = "unix:{name}"'
        for channel, name in names.items()
    ]
    zeros = "zeros = { Ar = 0.0 }\n" if kind == "energy" else ""
    toy = '"toy", "--sigma", "3.4", "--cutoff", "5.0", "--epsilon"'
    (folder / "mix.toml").write_text(
        f'[upstream]\nstructure = "init.xyz"\nconnections = {connections}\n'
        + "\n".join(keys)
        + f'\n[region]\n{region}[mixing]\nkind = "{kind}"\n{zeros}[models.cheap]\n'
        f'[models.expensive]\n[[local]]\nrole = "cheap"\ncommand = [{toy}, "{CHEAP}"]\n'
        f'[[local]]\nrole = "expensive"\ncount = {count}\n'
        f'command = [{toy}, "{EXPENSIVE}"{expensive}]\n'
    )
    done = subprocess.run(
        [BIN / "mixserver", "run", folder, "--quiet"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    run = folder / "runs/0001"
    log = (run / "server.log").read_text() if run.exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "never retrieved" not in log + done.stderr
    assert "Traceback" not in log + done.stderr
    return run


def _printed(run: Path) -> dict[str, np.ndarray]:
    """What i-PI printed: its properties, and positions (frames, beads x atoms, 3)."""
    table = read_columns(run / "simulation.out")
    beads = []
    for file in sorted(run.glob("simulation.pos_*.xyz")):
        lines = file.read_text().splitlines()
        places = [line.split()[1:] for line in lines if line.startswith("Ar")]
        beads.append(np.array(places, float).reshape(len(table["step"]), -1, 3))
    return table | {"pos": np.hstack(beads)}


def _assert_same(one: Path, other: Path) -> None:
    here, there = _printed(one), _printed(other)
    assert here.keys() == there.keys()
    assert len(here["step"]) > 3
    for name, values in here.items():
        np.testing.assert_allclose(values, there[name], rtol=PRINTED, atol=1e-7, err_msg=name)


def _asked(run: Path) -> Counter[str]:
    return Counter(report.channel for report in read_reports(run))


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_steps_that_are_not_split_go_as_with_one_channel(tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = {"kind": kind, "region": FOLLOW if kind == "energy" else REGION}
    alone = _mix(tmp_path / "one", ["mixed"], ONLY_MIXED, **settings)
    split = _mix(
        tmp_path / "split",
        ["cheap", "correction"],
        SPLIT.format(more=""),
        dynamics="<nmts> [1,1] </nmts>",
        **settings,
    )
    assert _asked(split) == {"cheap": 7, "correction": 7}
    _assert_same(split, alone)


@pytest.mark.physics
def test_multiple_time_steps_conserve_the_energy(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 40, "fs": 16.0, "dynamics": "<nmts> [1,4] </nmts>"}
    outer = _mix(tmp_path / "a", ["cheap", "correction"], SPLIT.format(more=""), **settings)
    assert _asked(outer) == {"cheap": 4 * 40 + 1, "correction": 41}
    printed = _printed(outer)
    moves = np.ptp(printed["potential"])
    assert moves > 0.03
    assert np.ptp(printed["conserved"]) < 0.01 * moves
    full = _mix(tmp_path / "b", ["cheap", "mixed"], FULL_OUTSIDE, **settings)
    assert _asked(full) == {"cheap": 4 * 40 + 1, "mixed": 41}
    for name in ("conserved", "potential", "pos"):  # 160 inner steps apart in rounding
        np.testing.assert_allclose(_printed(full)[name], printed[name], rtol=2e-6, atol=1e-5)


def test_a_correction_on_all_beads_is_mixed_on_all_beads(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"beads": 4, "batch": 4, "dynamics": RINGS}
    alone = _mix(tmp_path / "one", ["mixed"], ONLY_MIXED, **settings)
    settings["dynamics"] += "<nmts> [1,1] </nmts>"
    split = _mix(tmp_path / "split", ["cheap", "correction"], SPLIT.format(more=""), **settings)
    _assert_same(split, alone)


def test_contraction_is_what_ipi_makes_of_the_models_themselves(tmp_path: Path) -> None:
    # everything is expensive, so that i-PI can make the correction of two plain models
    dynamics = f"{RINGS}<nmts> [1,4] </nmts>"
    settings: dict[str, Any] = {"beads": 4, "fs": 16.0, "steps": 8, "dynamics": dynamics}
    contracted = _mix(
        tmp_path / "mix",
        ["cheap", "correction"],
        SPLIT.format(more="nbeads='2'"),
        region=EVERYTHING,
        batch={"cheap": 4, "correction": 2},
        **settings,
    )
    # all beads start at one place, which is asked about once
    assert _asked(contracted)["cheap"] == 4 * 4 * 8 + 1
    assert 2 * 8 + 1 <= _asked(contracted)["correction"] <= 2 * 9
    models = "".join(
        f"<ffdirect name='{name}' pbc='false'><pes> custom </pes><pes_path> {PES} </pes_path>"
        f"<parameters> {{epsilon: {epsilon}}} </parameters></ffdirect>"
        for name, epsilon in (("cheap", CHEAP), ("expensive", EXPENSIVE), ("less", CHEAP))
    )
    forces = (
        "<force forcefield='cheap'> <mts_weights> [0,1] </mts_weights> </force>"
        "<force forcefield='expensive' nbeads='2'> <mts_weights> [1,0] </mts_weights> </force>"
        "<force forcefield='less' nbeads='2' weight='-1'> <mts_weights> [1,0] </mts_weights>"
        "</force>"
    )
    direct = tmp_path / "direct"
    _write(direct, _input(models, forces, **settings))
    done = subprocess.run(
        [*ipi_program(), "input.xml"], cwd=direct, capture_output=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
    _assert_same(contracted, direct)


@pytest.mark.parametrize(("batch", "connections"), [(8, 1), (1, 4)], ids=["batch", "connections"])
def test_expensive_jobs_of_beads_are_in_flight_together(
    tmp_path: Path, batch: int, connections: int
) -> None:
    seconds, steps, together = 0.3, 2, batch * connections
    run = _mix(
        tmp_path / "case",
        ["cheap", "correction"],
        SPLIT.format(more=""),
        beads=8,
        batch=batch,
        connections=connections,
        steps=steps,
        dynamics=f"{RINGS}<nmts> [1,1] </nmts>",
        expensive=f', "--seconds", "{seconds}"',
        count=2,
    )
    reports = [r for r in read_reports(run) if r.channel == "correction"][-8 * steps :]
    assert len(reports) == 8 * steps  # at first all beads are at one place
    work = Counter(worker for r in reports for worker in r.expensive_workers)
    assert len(work) == 2
    assert min(work.values()) >= len(reports) / 4
    # the last of them waits for both workers' queues, into which all of them came at once
    assert max(r.ms_waiting for r in reports) >= 1e3 * seconds * (together / 2 - 0.1)
    for first in range(0, len(reports), together):
        these = reports[first : first + together]
        began = [r.time_s - 1e-3 * r.ms_total for r in these]
        assert max(began) < min(r.time_s for r in these)  # the last began before the first ended
