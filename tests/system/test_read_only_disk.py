"""A disk that becomes read-only under a run, as after an error of its hardware."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mixserver.core.processes import environment_program

MINIMAL = Path(__file__).parents[2] / "inputs/minimal"
MOUNT = """
set -e
mount -o loop,errors=remount-ro disk.img disk
trap 'cd /; umount $OLDPWD/disk 2>/dev/null || true' EXIT
cp -r {case} disk/case
rm -rf disk/case/runs
{mixserver} run disk/case --steps 100000 > output 2>&1 &
run=$!
while ! grep -q "step [1-9]" output; do sleep 0.2; kill -0 $run; done
echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE disk))/trigger_fs_error
code=0; wait $run || code=$?
echo $code > code
"""


@pytest.mark.physics
@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a disk")
def test_the_reason_and_the_place_of_restart_are_printed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    if not shutil.which("mkfs.ext4") or not shutil.which("unshare"):
        pytest.skip("needs e2fsprogs and util-linux")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    script = MOUNT.format(case=MINIMAL, mixserver=environment_program("mixserver"))
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        cwd=tmp_path,
        check=False,
        timeout=300,
        capture_output=True,
        text=True,
    )
    if "failed to setup loop device" in done.stderr:
        pytest.skip("no loop device here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code").read_text().strip() == "1"
    lines = (tmp_path / "output").read_text().splitlines()
    (error,) = [line for line in lines if line.startswith("Error:")]
    assert "has become read-only" in error
    assert not [line for line in lines if line.startswith("Traceback")]
    restart = Path(error.partition("Its RESTART is ")[2].partition(":")[0])
    try:
        assert "</simulation>" in restart.read_text()
    finally:
        restart.unlink()
