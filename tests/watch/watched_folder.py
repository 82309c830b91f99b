"""Run folders as a server and i-PI write them, and a page's app asked without a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
from starlette.types import ASGIApp

from mixserver.core.errors import Unreachable
from mixserver.core.frame import Frame, Topology
from mixserver.region.region import Region
from mixserver.server.records.recorder import Recorder
from mixserver.server.records.report import Report
from mixserver.server.runs import RunInfo
from mixserver.watch.app import watch_app
from mixserver.watch.live_run import LiveRun
from mixserver.wire.status import Status

TOKEN = "right-token"  # noqa: S105
INPUT = """<simulation>
  <output prefix='simulation'>
    <properties stride='1' filename='out'> [ step, time{picosecond}, temperature{kelvin} ]
    </properties>
    <trajectory filename='pos' stride='1' cell_units='angstrom'> positions{angstrom} </trajectory>
  </output>
</simulation>
"""


def frame(number: int, atoms: int = 5) -> Frame:
    random = np.random.default_rng(number)
    topology = Topology(np.full(atoms, 18, dtype=np.int32))
    return topology.frame(9.0 * random.random((atoms, 3)), np.diag([9.0, 9.0, 9.0]), number=number)


def region(atoms: int = 5) -> Region:
    lambda_ = np.zeros(atoms)
    lambda_[:3] = 1.0, 0.5, 0.001
    return Region(lambda_, np.array([0], dtype=np.intp))


def record(folder: Path, evaluations: int, **settings: int) -> None:
    recorder = Recorder(folder, **settings)
    for number in range(evaluations):
        report = Report(evaluation=number, core=1, blend=2, ms_total=2.0)
        recorder.record(report, frame(number), region())
    recorder.close()


def ipi_frame(step: int, positions: np.ndarray, symbol: str = "Ar") -> str:
    """As i-PI 3.3.1 prints it, in a cubic cell of 9 Å."""
    cell = "".join(f"{value:11.5f}" for value in (9.0, 9.0, 9.0, 90.0, 90.0, 90.0))
    rows = "".join(
        f"{symbol:>8s} {x:12.5e} {y:12.5e} {z:12.5e}\n" for x, y, z in positions.tolist()
    )
    about = f"# CELL(abcABC): {cell}  Step: {step:11d}  Bead:       0 "
    return f"{len(positions)}\n{about}positions{{angstrom}}  cell{{angstrom}}\n{rows}"


def run_folder(parent: Path, ended: str = "done") -> Path:
    """A run that is over and has no records yet."""
    folder = parent / "runs" / "0001"
    folder.mkdir(parents=True)
    (folder / "input.xml").write_text(INPUT)
    RunInfo(ended=ended).write(folder)
    return folder


def over() -> Status:
    """What asking a run that is over comes to."""
    raise Unreachable("the run is over")


def app_of(folder: Path) -> ASGIApp:
    return watch_app(LiveRun(str(folder), over), TOKEN)


async def ask(
    app: ASGIApp,
    path: str,
    *,
    method: str = "GET",
    host: str = "127.0.0.1:8765",
    token: str | None = TOKEN,
    **headers: str,
) -> httpx.Response:
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        url = f"http://127.0.0.1:8765{path}"
        return await client.request(method, url, headers={"host": host, **headers})


async def answer(app: ASGIApp, path: str) -> Any:
    found = await ask(app, path)
    assert found.status_code == 200, found.text
    return found.json()
