"""How long it takes until a run goes on after something was killed.

    python tests/chaos/recovery.py [--rounds 10] [--case inputs/silicon_vacancy]

Workers: an i-PI asks for forces, with two toy workers a role (0.2 s an evaluation). A worker that
is in the middle of a job is killed, or stopped; what that evaluation takes more than usual is what
it cost. A killed one must cost less than 1 s, a silent one less than 1 s beyond `patience_s` (2 s).
Server: `mixserver run --supervise`, whose server is killed. The time until the next run has
answered i-PI must be below 5 s; the workers must be the same processes as before.
Other work on the machine makes starts slower, so a program that only computes is timed between
the kills: its wall time over its processor time is the slowdown of everything here. Prints medians
and ranges; the exit status is 1 if a median is above its limit times the median slowdown.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chaos import COMMANDS, SCENARIOS, argon, case_text
from chaos_ipi import ChaosIpi, Integrator
from chaos_pool import Pool

from mixserver.core.processes import environment_program
from mixserver.server.status.client import ask
from mixserver.server.status.place import find
from mixserver.wire.status import Status

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
from run_watching import until, wrote
from supervised import descendants, kill, newest

Costs = list[tuple[float, float]]
"""Seconds, and how much slower than an idle one the machine was."""
_PATIENCE_S: Final = 2.0
_EVALUATION_S: Final = 0.2
_INTO_S: Final = 0.08
"""From the request to the kill."""
_STEPS: Final = 100_000
_COMPUTES: Final = (
    "import time; w, c = time.perf_counter(), time.process_time(); "
    "sum(i * i for i in range(3_000_000)); "
    "print((time.perf_counter() - w) / (time.process_time() - c))"
)


def slowdown() -> float:
    """How much longer a program takes here at present than on an idle machine."""
    done = subprocess.run(
        [sys.executable, "-c", _COMPUTES], capture_output=True, text=True, check=True
    )
    return max(1.0, float(done.stdout))


async def workers(rounds: int, number: signal.Signals, folder: Path) -> Costs:
    """What a signal to a busy worker costs an evaluation."""
    positions, cell = argon()
    lines = "\n".join(f"Ar {x:.10f} {y:.10f} {z:.10f}" for x, y, z in positions)
    side = cell[0, 0]
    (folder / "init.xyz").write_text(
        f"{len(positions)}\n# CELL(abcABC): {side} {side} {side} 90.0 90.0 90.0 "
        f"positions{{angstrom}} cell{{angstrom}}\n{lines}\n"
    )
    (folder / "mix.toml").write_text(case_text(*SCENARIOS["energy, follow"], "", folder))
    ipi, pool = ChaosIpi(folder / "chaos", Integrator(positions, cell, seed=7)), Pool()
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(  # noqa: ASYNC220 - a start, not a wait
            [environment_program("mixserver"), "serve", str(folder), "--quiet"],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert server.stdout is not None
    costs: Costs = []
    try:
        line = (await asyncio.to_thread(server.stdout.readline)).decode()
        found = re.search(r"workers connect to (\S+);", line)
        assert found, line
        slow = [(role, (*words, "--seconds", str(_EVALUATION_S))) for role, words in COMMANDS]
        async with ipi:
            await pool.start(found[1], slow * 2, folder)

            async def status() -> Status:
                return await asyncio.to_thread(ask, find(str(folder)).address, timeout_s=60.0)

            for _ in range(rounds):
                while not all(role.healthy == 2 for role in (await status()).roles):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                for _ in range(5):
                    await ipi.evaluate()
                usual = statistics.median(ipi.seconds[-5:])
                asked = asyncio.ensure_future(ipi.evaluate())
                await asyncio.sleep(_INTO_S)
                busy = [one.name for one in (await status()).workers if one.state == "busy"]
                if not busy or asked.done():  # it was too late
                    await asked
                    continue
                (hit,) = (
                    one
                    for one in pool.workers
                    if one.process is not None and busy[0].endswith(f"-{one.process.pid}")
                )
                hit.signal(number)
                await asyncio.wait_for(asked, 120.0)
                costs.append((ipi.seconds[-1] - usual, await asyncio.to_thread(slowdown)))
                hit.signal(signal.SIGCONT)
                if number == signal.SIGKILL and hit.process is not None:
                    await asyncio.to_thread(hit.process.wait)
                    hit.start()
    finally:
        server.kill()
        server.wait()
        await pool.close()
    return costs


def server(rounds: int, original: Path, folder: Path) -> Costs:
    """From the kill of a supervised run's server to the next answered evaluation."""
    case = folder / original.name
    for source in original.parent.iterdir():  # a case may use files of its neighbours
        if source.is_dir():
            shutil.copytree(
                source, folder / source.name, ignore=shutil.ignore_patterns("runs", "*.md")
            )
    with (case / "supervisor.log").open("wb") as output:
        run = subprocess.Popen(
            [
                environment_program("mixserver"),
                *("run", str(case), "--supervise", "--quiet", "--steps", str(_STEPS)),
            ],
            stdout=output,
            stderr=output,
        )
    costs: Costs = []

    def of_workers() -> set[int]:
        return {pid for pid, words in descendants(run.pid) if "--role" in words}

    try:
        for _ in range(rounds):
            before = newest(case)
            until(lambda before=before: wrote(newest(case), 4) or newest(case) != before, run)
            before, same = newest(case), of_workers()
            kill(run, "--supervised")  # type: ignore[arg-type]
            began = time.monotonic()
            until(lambda before=before: newest(case) != before and wrote(newest(case), 1), run)
            costs.append((time.monotonic() - began, slowdown()))
            if not same or of_workers() != same:
                raise AssertionError("workers were started again")
    finally:
        run.terminate()
        run.wait()
    return costs


def show(what: str, costs: Costs, limit: float) -> bool:
    """Print a line; whether the median is below the limit."""
    seconds, slow = zip(*costs, strict=True)
    median, slower = statistics.median(seconds), statistics.median(slow)
    sys.stdout.write(
        f"| {what} | {len(seconds)} | {median:.2f} | {min(seconds):.2f} to {max(seconds):.2f} | "
        f"{limit:g} | {slower:.1f} |\n"
    )
    sys.stdout.flush()
    return median < limit * slower


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--case", type=Path, default=Path(__file__).parents[2] / "inputs/silicon_vacancy"
    )
    asked = parser.parse_args()
    sys.stdout.write("| killed | times | median s | range s | limit s | slowdown |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")

    def measured(measure: Callable[[Path], Costs]) -> Costs:
        with tempfile.TemporaryDirectory(prefix="recovery-") as made:
            return measure(Path(made))

    def of_workers(number: signal.Signals) -> Costs:
        return measured(lambda folder: asyncio.run(workers(asked.rounds, number, folder)))

    good = show("a busy worker", of_workers(signal.SIGKILL), 1.0)
    late = f"a busy worker, stopped (patience {_PATIENCE_S:g} s)"
    good &= show(late, of_workers(signal.SIGSTOP), _PATIENCE_S + 1.0)
    restarts = measured(lambda folder: server(asked.rounds, asked.case, folder))
    good &= show(f"the server of {asked.case.name}", restarts, 5.0)
    return int(not good)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
