"""Which segments of killed MPI processes are removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mixserver.core.shared_memory import remove_stale_segments

_HOLD = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(file, 4096)
os.close(file)
print("mapped", flush=True)
sys.stdin.read()
"""


def test_only_old_segments_that_no_process_has_mapped_are_removed(tmp_path: Path) -> None:
    for name in ("mpich_shm_dead_0", "mpich_shm_live_0", "mpich_shm_new_0", "psm_other"):
        (tmp_path / name).write_bytes(bytes(4096))
        if "new" not in name:
            os.utime(tmp_path / name, (0, 0))
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "mpich_shm_live_0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"mapped\n"
        os.utime(tmp_path / "mpich_shm_live_0", (0, 0))
        assert remove_stale_segments(tmp_path) == [tmp_path / "mpich_shm_dead_0"]
    finally:
        holder.kill()
        holder.communicate()
    assert remove_stale_segments(tmp_path) == [tmp_path / "mpich_shm_live_0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mpich_shm_new_0", "psm_other"]
