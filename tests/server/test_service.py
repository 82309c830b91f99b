"""The life of a running server: what is closed when something fails, and who is told of what."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path

import pytest
import structlog
from fake_ipi import FakeIpi
from limits import HANG_S

from mixserver.cli.logs import configure
from mixserver.config import load_case
from mixserver.core.errors import EvaluationError, InternalError, MixserverError, NoWorkerError
from mixserver.server.build import Parts
from mixserver.server.local_workers import build_for_local_workers
from mixserver.server.regions import REGION_STATE
from mixserver.server.service import Service
from mixserver.wire.ipi import Reply, Request

INPUTS = Path(__file__).parents[2] / "inputs"


def built(folder: Path, address: str = "unix:minimal") -> Parts:
    case = folder / "case"
    shutil.copytree(INPUTS / "minimal", case, ignore=shutil.ignore_patterns("runs"))
    text = (case / "mix.toml").read_text().replace("unix:minimal", address)
    (case / "mix.toml").write_text(text)
    return build_for_local_workers(load_case(case), folder, str(folder))


def test_what_is_built_and_never_run_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    parts = built(tmp_path)
    assert threading.active_count() == before
    parts.recorder.close()


@pytest.mark.parametrize("how", [RuntimeError, OSError, asyncio.CancelledError])
async def test_every_step_of_closing_is_done_though_another_fails(
    tmp_path: Path, how: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = built(tmp_path)
    closed = parts.dispatcher.close

    async def failing(reason: str) -> None:
        await closed(reason)
        raise how("no")

    monkeypatch.setattr(parts.dispatcher, "close", failing)
    with pytest.raises(how):
        async with Service(parts).listening():
            (tmp_path / REGION_STATE).unlink()
    assert (tmp_path / REGION_STATE).exists()
    with pytest.raises(ValueError, match="closed"):  # its files
        parts.recorder._reports.write(b"x")


class Broken:
    """An evaluator that fails as the test wants."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def __call__(self, request: Request, channel: str = "mixed") -> Reply:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ZeroDivisionError("a bug"), InternalError), (EvaluationError("no sense"), EvaluationError)],
    ids=["bug", "refusal"],
)
async def test_a_failure_ends_the_server_is_logged_once_and_its_frame_kept(
    tmp_path: Path, error: Exception, kind: type[Exception]
) -> None:
    fake = FakeIpi(tcp=True)
    parts = built(tmp_path, fake.address)
    parts.answer = Broken(error)  # nothing real fails in a way that nobody thought of
    atoms = parts.start.positions
    configure(tmp_path / "server.log")

    def scene() -> None:
        fake.listen()
        peer = fake.accept()
        peer.ready()
        peer.ask(atoms / 0.529177)
        with pytest.raises((EOFError, ConnectionError)):
            peer.read(1 << 20)

    there = asyncio.create_task(asyncio.to_thread(scene))
    try:
        service = Service(parts)
        async with service.listening():
            with pytest.raises(kind, match=str(error)):
                await asyncio.wait_for(service.serve(), HANG_S)
        await there
    finally:
        fake.close()
    lines = [json.loads(line) for line in (tmp_path / "server.log").read_text().splitlines()]
    told = [line for line in lines if str(error) in json.dumps(line) and line["level"] == "error"]
    assert len(told) == 1, told
    assert ("Traceback" in json.dumps(told)) == (kind is InternalError)
    assert (tmp_path / "failed.xyz").exists()


async def test_a_timer_that_dies_ends_the_run_instead_of_going_on_without_it(
    tmp_path: Path,
) -> None:
    fake = FakeIpi(tcp=True)
    fake.listen()
    parts = built(tmp_path, fake.address)

    def dies() -> None:
        raise KeyError("a worker that has gone")

    try:
        service = Service(parts)
        async with service.listening():
            asyncio.get_running_loop().call_later(0.05, dies)
            with pytest.raises(MixserverError, match=r"KeyError.*timers"):
                await asyncio.wait_for(service.serve(), HANG_S)
    finally:
        fake.close()


async def test_a_timer_that_dies_ends_those_who_ask_without_an_ipi(tmp_path: Path) -> None:
    parts = built(tmp_path)
    async with Service(parts).listening():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        with pytest.raises(NoWorkerError, match="ZeroDivisionError"):
            await asyncio.wait_for(parts.dispatcher.card("cheap"), HANG_S)


def test_a_log_on_a_full_disk_says_so_once_and_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(Path("/dev/full"))
    for _ in range(3):
        structlog.get_logger().warning("worker lost")
    said = capsys.readouterr().err
    assert said.count("/dev/full is incomplete") == 1
    assert said.count("worker lost") == 3
