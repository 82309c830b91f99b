"""A signal that another thread receives reaches a main thread that waits for a lock."""

from __future__ import annotations

import subprocess
import sys

import pytest
from limits import HANG_S

PROGRAM = """
import signal, sys, threading, time
from mixserver.ipi.host.signals import delivered_to_main_thread

def handler(number, frame):
    print("delivered_to_main_thread", number, flush=True)
    lock.release()

lock = threading.Lock()
lock.acquire()
if {heed}:
    handler = delivered_to_main_thread(handler)
signal.signal(signal.SIGTERM, handler)

def elsewhere():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60.0)

threading.Thread(target=elsewhere, daemon=True).start()
print("waiting", flush=True)
lock.acquire()  # as a future's result is waited for
print("done", flush=True)
"""


@pytest.mark.parametrize("heed", [True, False])
def test_a_signal_to_another_thread_wakes_the_main_thread(heed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(heed=heed)], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            said, _ = running.communicate(timeout=HANG_S if heed else 3.0)
        except subprocess.TimeoutExpired:
            assert not heed  # which shows that there is something to cure
            running.kill()
        else:
            assert heed
            assert said.splitlines() == ["waiting", "delivered_to_main_thread 15", "done"]


AGAIN = """
import signal, os, time
from mixserver.ipi.host.signals import delivered_to_main_thread
count = 0
def handler(number, frame):
    global count
    count += 1
signal.signal(signal.SIGTERM, delivered_to_main_thread(handler))
for _ in range(3):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.8)
print(count)
"""


def test_a_signal_that_was_heeded_is_not_repeated() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AGAIN], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert done.stdout.strip() == "3"


MANY = """
import signal, threading, time
from mixserver.ipi.host.signals import delivered_to_main_thread
seen = []
both = threading.Lock()

def handler(number, frame):
    seen.append(number)
    if {signal.SIGTERM, signal.SIGINT} <= set(seen):
        seen.clear()
        both.release()

handle = delivered_to_main_thread(handler)
signal.signal(signal.SIGTERM, handle)
signal.signal(signal.SIGINT, handle)
again = threading.Semaphore(0)

def elsewhere():
    for k in range(40):
        again.acquire()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        time.sleep(0.003 * (k % 4))
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=elsewhere, daemon=True).start()
both.acquire()
for _ in range(40):
    again.release()
    both.acquire()  # released once both came; a signal that is lost leaves it waiting
print("all", flush=True)
"""


def test_no_signal_is_lost_among_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    assert done.stdout.strip() == "all"
