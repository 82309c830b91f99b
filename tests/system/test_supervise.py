"""`mixserver run --supervise`: whatever is killed, the trajectory is that of an undisturbed run."""

from __future__ import annotations

import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import BIN, edit, minimal_case, mixserver, mixserver_done
from run_watching import joined, remembering, reports, step_of, until, wrote
from supervised import descendants, kill, newest, started

from mixserver.server.supervise import Attempts


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the minimal case."""
    return minimal_case(tmp_path)


def test_server_ipi_and_workers_are_killed_and_the_trajectory_is_the_same(case: Path) -> None:
    remembering(case, "energy")
    mixserver_done("run", case, "--quiet", "--steps", "150", "--runs", case / "undisturbed")
    straight = reports(case / "undisturbed/0001")
    with started(case, 150) as supervisor:
        try:
            for words in ("--supervised", "mixserver.ipi.host", "--role expensive"):
                until(lambda: wrote(newest(case), 6), supervisor)
                workers = {pid for pid, command in descendants(supervisor.pid) if "toy" in command}
                run, lines = newest(case), len(reports(newest(case)))
                kill(supervisor, words)
                if "role" in words:  # the run itself goes on
                    until(lambda run=run, lines=lines: wrote(run, lines + 2), supervisor)
                    continue
                until(lambda run=run: newest(case) != run, supervisor)
                still = {pid for pid, command in descendants(supervisor.pid) if "toy" in command}
                if words == "--supervised":
                    assert still == workers  # with their models loaded
            assert supervisor.wait() == 0
        finally:
            supervisor.terminate()
    table = joined(newest(case))
    assert table.step.tolist() == list(range(151))
    whole = joined(case / "undisturbed/0001")
    np.testing.assert_allclose(table.columns["conserved"], whole.columns["conserved"], atol=2e-6)
    last, ended = reports(newest(case))[-1], straight[-1]
    assert (last.seeds, last.core, last.blend) == (ended.seeds, ended.core, ended.blend)
    assert last.work == pytest.approx(ended.work, abs=1e-6)
    assert len({(report.core, report.blend) for report in straight}) > 5
    again = mixserver("run", case, "--supervise", "--steps", "150")
    assert again.returncode == 0
    assert "all steps are made" in again.stdout
    assert newest(case).name == "0003"


def test_a_killed_supervisor_leaves_a_restart_and_the_same_command_goes_on(case: Path) -> None:
    with started(case, 40) as supervisor:
        until(lambda: wrote(newest(case), 6), supervisor)
        below = [pid for pid, _ in descendants(supervisor.pid)]
        supervisor.kill()
        supervisor.wait()
    done = mixserver("run", case, "--supervise", "--steps", "40")  # at once, as systemd does
    assert done.returncode == 0, done.stderr
    assert f"continuing from {case}/runs/0001/RESTART" in done.stdout
    assert joined(newest(case)).step.tolist() == list(range(41))
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)


def test_what_fails_again_and_again_is_given_up(case: Path) -> None:
    refused = case / "refused"
    minimal_case(refused)
    edit(refused / "case/input.xml", "minimal </address>", "other </address>")
    done = mixserver("run", refused / "case", "--supervise")
    assert done.returncode == 1
    assert "make them the same" in done.stderr
    assert "it was not started again" in done.stderr
    assert len(list((refused / "case/runs").glob("[0-9]*"))) == 1
    edit(case / "mix.toml", '"0.0120"', '"nonsense"')
    edit(case / "mix.toml", 'role = "expensive"', 'role = "expensive"\nrestarts = 0')
    done = mixserver("run", case, "--supervise", "--quiet")
    assert done.returncode == 1
    assert "the last expensive worker" in done.stderr
    assert "nonsense" in done.stderr
    assert "is not started again" in done.stderr
    assert done.stderr.count("the run cannot go on") == 3


def test_ctrl_c_ends_all_in_order(case: Path) -> None:
    with started(case, 10000) as supervisor:
        until(lambda: wrote(newest(case), 6), supervisor)
        below = [pid for pid, _ in descendants(supervisor.pid)]
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait() == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)
    assert step_of(newest(case) / "RESTART") > 0
    assert "the same command continues" in (case / "supervisor.log").read_text()


def test_an_output_that_cannot_be_written_leaves_a_restart_and_says_what_to_do(case: Path) -> None:
    edit(case / "input.xml", "filename='pos' stride='50'", "filename='pos' stride='1'")
    edit(case / "input.xml", "> 100 </total_steps>", "> 20 </total_steps>")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (72_000, 72_000))

    done = subprocess.run(
        [BIN / "mixserver", "run", case, "--quiet"],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "i-PI cannot write its output: File too large" in done.stderr
    run = newest(case)
    printed = np.loadtxt(run / "simulation.out")[:, 0]
    assert step_of(run / "RESTART") >= printed[-1] - 1
    mixserver_done("run", case, "--restart", "--quiet")
    assert joined(newest(case)).step.tolist() == list(range(21))


def test_attempts_are_bounded_and_progress_forgives() -> None:
    attempts = Attempts()
    pauses = []
    for _ in range(5):
        assert not attempts.too_many
        pauses.append(attempts.pause_s)
        attempts = attempts.after(-9, progress=False)
    assert attempts.too_many
    assert pauses == [0.0, 0.0, 2.0, 4.0, 8.0]
    attempts = attempts.after(-9, progress=True)
    assert (attempts.pause_s, attempts.too_many) == (0.0, False)
    for _ in range(3):
        assert not attempts.too_many
        attempts = attempts.after(1, progress=False)
    assert attempts.too_many
