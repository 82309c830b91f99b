"""Kills at random moments, again and again: every run continues exactly where the one before was.

    pytest -m physics tests/system/test_chaos.py

MIXSERVER_CHAOS_STEPS sets how long it takes; the seed of the kills is fixed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import edit, minimal_case, mixserver_done
from limits import HANG_S
from run_watching import joined, remembering, reports
from supervised import descendants, kill, newest, started

from mixserver.server.runs import read_run_info, run_chain

STEPS = int(os.environ.get("MIXSERVER_CHAOS_STEPS", "300"))
TARGETS = ("--supervised", "mixserver.ipi.host", "--role cheap", "--role expensive", "supervisor")


def disturb(case: Path, supervisor: subprocess.Popen[str], rng: random.Random) -> bool:
    """Kill something; False if the supervisor itself."""
    target = rng.choice(TARGETS)
    if target == "supervisor":
        supervisor.kill()
        supervisor.wait()
        return False
    with contextlib.suppress(AssertionError, ProcessLookupError):  # it had ended by itself
        kill(supervisor, target)
    return True


@pytest.mark.physics
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["following", "energy", "force"])
def test_every_link_of_the_chain_fits(tmp_path: Path, kind: str) -> None:
    case = minimal_case(tmp_path)
    edit(case / "input.xml", "stride='100' filename='chk'", "stride='10' filename='chk'")
    if kind != "following":
        remembering(case, kind)
    mixserver_done("run", case, "--quiet", "--steps", str(STEPS), "--runs", case / "undisturbed")
    rng = random.Random(kind)
    kills = 0
    supervisor = started(case, STEPS)
    try:
        until = time.monotonic() + 20.0 * HANG_S
        while supervisor.poll() is None:
            assert time.monotonic() < until
            run = newest(case)
            wanted = len(reports(run)) + rng.randrange(1, 30)
            while newest(case) == run and len(reports(run)) < wanted and supervisor.poll() is None:
                time.sleep(0.02)
            if supervisor.poll() is None:
                kills += 1
                if not disturb(case, supervisor, rng):
                    supervisor = started(case, STEPS)
        assert supervisor.returncode == 0, (case / "supervisor.log").read_text()[-3000:]
    finally:
        supervisor.terminate()
        supervisor.wait()
    assert kills > STEPS // 40
    chain = run_chain(newest(case))
    for before, after in itertools.pairwise(chain):
        check_link(before, after)
    table, whole = joined(newest(case)), joined(case / "undisturbed/0001")
    assert table.step.tolist() == list(range(STEPS + 1))
    np.testing.assert_allclose(
        table.columns["conserved"], whole.columns["conserved"], atol=1e-4
    )  # RESTART has nine digits, and the motion of many atoms is chaotic
    assert not list(descendants(supervisor.pid))


def check_link(before: Path, after: Path) -> None:
    """The first evaluation of a run is that of the run before at the same step."""
    about, origin = read_run_info(after), read_run_info(before)
    assert about is not None
    assert about.restarted_from is not None
    assert origin is not None
    began = origin.restarted_from.step or 0 if origin.restarted_from is not None else 0
    at = (about.restarted_from.step or 0) - began
    then, now = reports(before), reports(after)
    if at >= len(then) or not now:  # the record of the last evaluations was lost with the server
        return
    assert (now[0].seeds, now[0].core, now[0].blend) == (
        then[at].seeds,
        then[at].core,
        then[at].blend,
    )
    assert now[0].energy == pytest.approx(then[at].energy, abs=2e-6)
    assert now[0].work == pytest.approx(then[at].work, abs=2e-6)
