"""Files are written whole or not at all, by however many writers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mixserver.core.atomic_write import atomic_writer, write_atomically


def test_writers_at_one_time_do_not_mix(tmp_path: Path) -> None:
    """Each piece is written by itself, so that others come in between."""
    file = tmp_path / "x"
    start = threading.Barrier(4)

    def write(letter: bytes) -> None:
        start.wait()
        for _ in range(20):
            with atomic_writer(file) as stream:
                for _ in range(50):
                    stream.write(letter * 100)
                    stream.flush()

    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for writer in writers:
        writer.start()
    start.wait()
    while any(writer.is_alive() for writer in writers):
        if file.exists():
            content = file.read_bytes()
            assert len(content) == 5000
            assert len(set(content)) == 1
    for writer in writers:
        writer.join()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x"
    write_atomically(file, b"old")

    def half() -> None:
        with atomic_writer(file) as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "nowhere" / "x", b"")


def test_a_killed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x"
    write_atomically(file, b"old")
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from mixserver.core.atomic_write import atomic_writer\n"
        "with atomic_writer(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half')\n    stream.flush()\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, file], check=False).returncode == -9
    assert file.read_bytes() == b"old"


def test_a_link_is_replaced_and_the_usual_rights_are_given(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"kept")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert target.read_bytes() == b"kept"
    assert not link.is_symlink()
    (tmp_path / "usual").write_bytes(b"")
    assert link.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert os.access(link, os.R_OK)
