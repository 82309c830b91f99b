"""What all tests share: Hypothesis without deadlines, one thread per library, and a leak check."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings

# the machine may be busy; a test that hangs meets pytest's own timeout
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

OWN_DAEMONS = ("link", "i-PI ", "mixserver", "end of ")
"""How the project names its daemon threads; those of libraries live as long as the process."""


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5.0
    left: list[threading.Thread] = []
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in before and _is_ours(t)]
        if not left:
            return
        time.sleep(0.02)
    pytest.fail(f"threads left behind: {[t.name for t in left]}")


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """Commands and the ASE calculator configure the process's log; tests that read it need all."""
    yield
    structlog.reset_defaults()


MACE_FILES = ("/mace_tests/", "/test_silicon.py", "/test_energy_gradients.py")
"""Parts of the paths of files whose tests import mace, which takes longer than most tests."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With ``--dist loadfile``, one process for all files that import mace."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "mace" if any(part in file for part in MACE_FILES) else file

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end no process then waits for another's."""
    items.sort(key=lambda item: item.path.parent.name != "system")


def _is_ours(thread: threading.Thread) -> bool:
    """All threads but those of libraries: thread pools (asyncio's), progress monitors."""
    if not thread.is_alive() or thread.name.startswith("asyncio_"):
        return False
    return not thread.daemon or thread.name.startswith(OWN_DAEMONS)
