"""What all tests share: one time scale, and no leaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

# the machine may be busy; whoever hangs meets pytest's own timeout
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5.0
    left: list[threading.Thread] = []
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in before and t.is_alive()]
        # pools that live as long as the process (asyncio's default executor, tqdm) are not ours
        left = [t for t in left if not t.daemon and not t.name.startswith("asyncio_")]
        if not left:
            return
        time.sleep(0.02)
    pytest.fail(f"threads left behind: {[t.name for t in left]}")
