"""Processor time counts what a process and its children compute, and not how long they wait."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from mixserver.analysis.bench.processor_time import ProcessorClock, family, spent

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], 'child'])"
CHILD = """
import time
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
print("done", flush=True)
time.sleep(600)
"""


def test_a_child_counts_and_waiting_does_not() -> None:
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"done\n"
            clock = ProcessorClock(parent.pid)
            assert len(family(parent.pid)) == 2
            busy = clock.read()
            assert busy is not None
            assert busy >= 0.3
            time.sleep(0.5)
            assert clock.read() == pytest.approx(busy, abs=0.1)
        finally:
            os.killpg(parent.pid, 9)


def test_what_is_gone_is_unknown() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert ProcessorClock(done.pid).read() is None
    assert spent(1.0, None, 2.0) == (1.0, None)
    assert spent(1.0, 1.5, 2.0) == (1.0, 0.5)
