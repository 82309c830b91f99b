"""What is settled before torch is imported. In processes of their own: it cannot be taken back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from limits import HANG_S
from mixserver_worker.engines.threads import prepare_torch

from mixserver.core.errors import ConfigError


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_S
    )
    return done.stdout.strip()


def test_threads_are_in_the_environment_and_torch_is_not_imported() -> None:
    code = (
        "import os, sys\n"
        "from mixserver_worker.engines.threads import prepare_torch; prepare_torch(3);"
        "print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'],"
        " 'torch' in sys.modules)"
    )
    assert run(code) == "3 3 False"


def test_without_a_number_the_environment_is_left_alone() -> None:
    code = (
        "import os; os.environ['OMP_NUM_THREADS'] = '7';"
        "from mixserver_worker.engines.threads import prepare_torch; prepare_torch();"
        "print(os.environ['OMP_NUM_THREADS'])"
    )
    assert run(code) == "7"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept() -> None:
    """Page faults of touching the same 64 MiB again: thousands if the kernel got it back."""
    code = (
        "import resource, sys, numpy as np\n"
        "from mixserver_worker.engines.threads import prepare_torch\n"
        "assert prepare_torch(1)\n"
        "def touch(): np.ones(8 << 20)\n"
        "touch()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "touch()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    assert int(run(code)) < 1000


def test_no_threads_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more, got 0"):
        prepare_torch(0)
