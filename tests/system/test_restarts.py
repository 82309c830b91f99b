"""`mixserver run --restart` as people use it: after changes, after failures, after kills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_here import mixserver_here
from command_line import edit, minimal_case, mixserver, mixserver_done
from ipi_cases import free_port
from ipi_program import ipi_program
from run_watching import joined, remembering, reports, until, wrote

from mixserver.ipi.input import read_input

MIXSERVER = Path(sys.executable).parent / "mixserver"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the minimal case."""
    return minimal_case(tmp_path)


@pytest.mark.parametrize("kind", [pytest.param("energy", marks=pytest.mark.physics), "force"])
def test_another_potential_is_refused_every_time_and_the_right_one_goes_on(
    case: Path, kind: str
) -> None:
    if kind == "force":
        edit(case / "mix.toml", 'kind = "energy"', 'kind = "force"')
        edit(case / "mix.toml", "follow = true", "")
    mixserver_done("run", case, "--quiet", "--steps", "5")
    for old, new, said in (
        ("core_radius = 4.0", "core_radius = 4.5", "region.core_radius: 4.0 -> 4.5"),
        ("0.0120", "0.0121", "the expensive model: toy-lj"),
    ):
        edit(case / "mix.toml", old, new)
        for _ in range(2):
            done = mixserver_here("run", case, "--quiet", "--restart", "--steps", "9")
            assert done.returncode == 1
            assert said in done.stderr
            assert "0001 was made with other" in done.stderr
        edit(case / "mix.toml", new, old)
    mixserver_done("run", case, "--quiet", "--restart", "--steps", "9")
    about = json.loads((case / "runs/latest/run.json").read_text())
    assert about["restarted_from"] == {"run": "../0001", "file": "RESTART", "step": 5}
    assert np.loadtxt(case / "runs/latest/simulation.out")[:, 0].tolist() == list(range(6, 10))


def test_a_named_checkpoint_is_gone_on_from(case: Path) -> None:
    edit(case / "input.xml", "stride='100' filename='chk' overwrite='true'", CHECKPOINTS)
    edit(case / "input.xml", "<total_steps> 100", "<!-- <total_steps> 7 --> <total_steps> 100")
    mixserver_done("run", case, "--quiet", "--steps", "9")
    checkpoint = case / "runs/0001/simulation.chk_1"  # the second, after step 5
    mixserver_done("run", case, "--quiet", "--from", checkpoint, "--steps", "9")
    first, second = (np.loadtxt(case / f"runs/{n}/simulation.out") for n in ("0001", "0002"))
    np.testing.assert_allclose(second, first[6:], rtol=1e-6)
    done = mixserver_here("run", case, "--restart", "--from", checkpoint)
    assert done.returncode == 1
    assert "give one" in done.stderr


CHECKPOINTS = "stride='5' filename='chk' overwrite='false'"


@pytest.mark.parametrize("kind", ["energy", pytest.param("force", marks=pytest.mark.physics)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(case: Path, kind: str) -> None:
    remembering(case, kind)
    mixserver_done("run", case, "--quiet", "--steps", "45")
    straight = reports(case / "runs/0001")
    killed = case / "runs/0002"
    running = subprocess.Popen(
        [MIXSERVER, "run", case, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: wrote(killed, 14), running)
    finally:
        running.kill()
        running.wait()
    assert not (killed / "region.json").exists()  # an empty memory is not written
    until((killed / "RESTART").exists)
    until(lambda: "</simulation>" in (killed / "RESTART").read_text())
    step = read_input(killed / "RESTART").step
    assert step < 45
    done = mixserver("run", case, "--restart", "--steps", "45")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    went_on = reports(case / "runs/0003")
    assert len(went_on) == 46 - step
    for then, now in zip(straight[step:], went_on, strict=True):
        assert (now.seeds, now.core, now.blend) == (then.seeds, then.core, then.blend)
        assert now.work == pytest.approx(then.work, abs=1e-6)
        assert now.energy == pytest.approx(then.energy, abs=1e-6)  # RESTART has nine digits
    table, whole = (joined(case / f"runs/{number}") for number in ("0003", "0001"))
    assert table.step.tolist() == list(range(46))
    np.testing.assert_allclose(table.columns["conserved"], whole.columns["conserved"], atol=2e-6)
    together = mixserver_here("drift", case / "runs/0003", "--json")
    alone = mixserver_here("drift", case / "runs/0001", "--json")
    one, other = (json.loads(done.stdout).popitem()[1] for done in (together, alone))
    assert one["runs"] == ["0002", "0003"]
    assert one["picoseconds"] == pytest.approx(other["picoseconds"])
    assert mixserver_here("plot", case / "runs/0003").returncode == 0
    lambdas = {(report.core, report.blend) for report in straight}
    assert len(lambdas) > 5  # there was something to forget


def test_a_living_server_follows_ipi_back_to_a_checkpoint(case: Path) -> None:
    remembering(case, "energy")
    port = free_port()
    edit(case / "mix.toml", '"unix:minimal"', f'"127.0.0.1:{port}"')
    edit(case / "input.xml", "mode='unix'", "mode='inet'")
    place = f"127.0.0.1 </address> <port> {port} </port>"
    edit(case / "input.xml", "minimal </address>", place)
    edit(case / "input.xml", "stride='100' filename='chk' overwrite='true'", CHECKPOINTS)
    with contextlib.ExitStack() as stack:

        def start(*command: str | Path) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(
                    [str(word) for word in command],
                    cwd=case,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            )
            stack.callback(process.kill)
            return process

        door = f"ipc://{case}/door"
        with (case / "mix.toml").open("a") as file:
            file.write(f'\n[workers]\ndoor = "{door}"\n')
        server = start(MIXSERVER, "serve", case)
        for role, epsilon in (("cheap", "0.0104"), ("expensive", "0.0156")):
            worker = MIXSERVER.with_name("mixserver-worker")
            toy = ("toy", "--epsilon", epsilon, "--sigma", "3.4", "--cutoff", "7.0")
            start(worker, *toy, "--server", door, "--role", role)
        ipi = start(*ipi_program(), "input.xml")
        run = case / "runs/0001"
        until(lambda: wrote(run, 25), server)
        ipi.kill()
        ipi.wait()
        step = read_input(case / "simulation.chk_2").step
        assert step == 10
        before = len(reports(run))
        again = start(*ipi_program(), "simulation.chk_2")
        until(lambda: wrote(run, before + 8), server)
        again.kill()  # EXIT would end the server, and the server the workers
        again.wait()
        found = reports(run)
        log = (run / "server.log").read_text()
        back = int(re.findall(r'"evaluations_back": (\d+)', log)[0])
        first = next(
            n
            for n, report in enumerate(found)
            if n > before - 2 and report.energy == pytest.approx(found[step].energy, abs=1e-6)
        )
        assert back == first - 1 - step
        for then, now in zip(found[step : step + 6], found[first:], strict=False):
            assert (now.core, now.blend) == (then.core, then.blend)
            assert now.energy - now.work == pytest.approx(then.energy - then.work, abs=1e-6)
        server.kill()
        server.wait()
        server = start(MIXSERVER, "serve", case, "--restart", run)
        start(*ipi_program(), "simulation.chk_2")
        new = case / "runs/0002"
        until(lambda: wrote(new, 5), server)
        for then, now in zip(found[step : step + 5], reports(new), strict=False):
            assert (now.core, now.blend) == (then.core, then.blend)
            assert now.work == pytest.approx(then.work, abs=1e-6)
            assert now.energy == pytest.approx(then.energy, abs=1e-6)
        edit(case / "mix.toml", "core_radius = 4.0", "core_radius = 4.1")
        refused = mixserver_here("serve", case, "--restart", run)
        assert refused.returncode == 1
        assert "region.core_radius: 4.0 -> 4.1" in refused.stderr


def test_a_run_ends_when_its_time_is_up_and_tells_what_has_changed_when_it_goes_on(
    case: Path,
) -> None:
    edit(case / "input.xml", "<total_steps> 100", "<total_steps> 1000000")
    for seconds in (4, 12, 40, 120):  # until the machine has time for a step
        done = mixserver("run", case, "--quiet", "--until", f"{seconds}s")
        assert done.returncode == 75, done.stderr
        if (case / "runs/latest/RESTART").is_file():
            break
    assert "the time is up; i-PI's RESTART is in" in done.stdout
    edit(case / "input.xml", "> 5.0 </timestep>", "> 2.5 </timestep>")
    edit(case / "mix.toml", "[mixing]", "[warnings]\nregion = 0.9\n\n[mixing]")
    step = read_input(case / "runs/latest/RESTART").step
    again = mixserver("run", case, "--restart", "--steps", str(step + 3))
    assert again.returncode == 0, again.stderr
    assert "changed since: mix.toml: warnings.region: 0.5 -> 0.9" in again.stdout
    assert "dynamics/timestep: 5.0 -> 2.5 (without effect" in again.stdout
