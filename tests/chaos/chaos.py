"""Chaos: workers are killed, stopped and cut off all the time; every answer keeps its bits.

    python tests/chaos/chaos.py [--evaluations 3440] [--every 20] [--seed 1] [--only NAME]
        [--jobs whole|split|batched]

For each kind of region and of mixing a real server answers an i-PI that integrates what it gets,
once undisturbed with one worker a role, once with three a role of which one is hit on average every
20 evaluations. Every energy, force and virial must be equal to the last bit, and nothing may be
left: processes, threads, file descriptors, memory, files in temporary folders and shared memory.
With --jobs split a region is divided into jobs that workers share (`max_sites`); with --jobs
batched, in addition, four beads ask at once and their jobs are evaluated together (`batch_sites`).

Prints a table; the exit status is 1 if anything differs. Takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from chaos_ipi import ChaosIpi, Integrator
from chaos_pool import KINDS, Pool

from mixserver.core.processes import environment_program

_CELLS: Final = 4
_LATTICE: Final = 5.3
"""Å, of argon."""
_LJ: Final = ("--sigma", "3.4", "--cutoff", "7.0")
COMMANDS: Final = (
    ("cheap", ("toy", "--epsilon", "0.0104", *_LJ)),
    ("expensive", ("toy", "--epsilon", "0.0120", *_LJ)),
)
_ATOMS = 'seeds = { kind = "atoms", indices = [132, 133] }'
_CRITERION = (
    'seeds = { kind = "criterion", compute = "coord/atom cutoff 4.4", high = 11.5, every = 5, '
    "initial = [132], sample_every = 2, samples = 2 }"
)
_ZEROS = "zeros = { Ar = 0.0 }"
_HYSTERESIS = "hysteresis = { time_in = 3.0, time_out = 12.0 }"
SCENARIOS: Final = {
    "energy, frozen": ("energy", _ATOMS, f'{_ZEROS}\ndead_loads = "off"'),
    "energy, follow": ("energy", f"follow = true\n{_ATOMS}", _ZEROS),
    "energy, criterion": ("energy", _CRITERION, _ZEROS),
    "energy, criterion + hysteresis": ("energy", f"{_CRITERION}\n{_HYSTERESIS}", _ZEROS),
    "force, atoms": ("force", _ATOMS, ""),
    "force, hysteresis": ("force", f"{_ATOMS}\n{_HYSTERESIS}", ""),
    "force, criterion": ("force", _CRITERION, ""),
    "force, criterion + hysteresis": ("force", f"{_CRITERION}\n{_HYSTERESIS}", ""),
}

_SETTLED: Final = 20
"""Evaluations before the first event, and before what the server holds is looked at."""
_SPLIT: Final = "max_sites = 8\n"
JOBS: Final = {
    "whole": (1, ""),
    "split": (1, _SPLIT),
    "batched": (4, f"{_SPLIT}batch_sites = 60\n"),
}
"""How a region becomes jobs: beads, and settings of the expensive model."""


def case_text(kind: str, region: str, mixing: str, expensive: str, folder: Path) -> str:
    return (
        f'[upstream]\naddress = "unix:chaos"\nsockets_prefix = "{folder}/"\n'
        'structure = "init.xyz"\n'
        f"[region]\ncore_radius = 3.0\nblend_width = 2.0\n{region}\n"
        f'[mixing]\nkind = "{kind}"\n{mixing}\n'
        f"[models.cheap]\n[models.expensive]\n{expensive}"
        "[workers]\npatience_s = 2.0\nheartbeat_s = 0.4\n"
    )


def argon() -> tuple[np.ndarray, np.ndarray]:
    corner = np.array(list(np.ndindex(_CELLS, _CELLS, _CELLS)), float)
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    positions = (corner[:, None] + basis).reshape(-1, 3) * _LATTICE
    return positions, _CELLS * _LATTICE * np.eye(3)


@dataclass
class Use:
    """What a process holds."""

    memory_mb: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Use:
        status = Path(f"/proc/{pid}/status").read_text()
        memory, threads = (
            int(re.search(rf"{key}:\s+(\d+)", status)[1])  # type: ignore[index]
            for key in ("VmRSS", "Threads")
        )
        return cls(memory / 1024, len(os.listdir(f"/proc/{pid}/fd")), threads)

    def __str__(self) -> str:
        return f"{self.memory_mb:.1f} MB {self.files} fd {self.threads} th"


@dataclass
class Outcome:
    """One trajectory."""

    ipi: ChaosIpi
    begin: Use
    end: Use
    pool: Pool
    regions: int
    """Different regions, by their numbers of atoms."""
    left: list[str] = field(default_factory=list)


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


def processes(mark: str) -> list[str]:
    """Processes whose command line has a word of this run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "cmdline").read_text() and int(entry.name) != os.getpid():
                found.append(entry.name)
        except (OSError, UnicodeDecodeError):
            continue
    return found


async def trajectory(
    name: str, jobs: str, evaluations: int, copies: int, every: float, seed: int
) -> Outcome:
    kind, region, mixing = SCENARIOS[name]
    beads, expensive = JOBS[jobs]
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as made:
        folder = Path(made)
        positions, cell = argon()
        lines = "\n".join(f"Ar {x:.10f} {y:.10f} {z:.10f}" for x, y, z in positions)
        side = cell[0, 0]
        (folder / "init.xyz").write_text(
            f"{len(positions)}\n# CELL(abcABC): {side} {side} {side} 90.0 90.0 90.0 "
            f"positions{{angstrom}} cell{{angstrom}}\n{lines}\n"
        )
        (folder / "tmp").mkdir()
        os.environ["TMPDIR"] = str(folder / "tmp")  # of the processes that are started
        (folder / "mix.toml").write_text(case_text(kind, region, mixing, expensive, folder))
        ipi = ChaosIpi(folder / "chaos", Integrator(positions, cell, seed=7, beads=beads))
        pool = Pool()
        with (folder / "serve.log").open("wb") as log:
            server = subprocess.Popen(  # noqa: ASYNC220 - a start, not a wait
                [environment_program("mixserver"), "serve", made, "--quiet"],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            assert server.stdout is not None
            line = (await asyncio.to_thread(server.stdout.readline)).decode()
            found = re.search(r"workers connect to (\S+);", line)
            assert found, line
            async with ipi:
                await pool.start(found[1], COMMANDS * copies, folder)
                for step in range(evaluations):
                    hit = every and step > _SETTLED and rng.random() < 1.0 / every
                    asked = asyncio.ensure_future(ipi.evaluate())
                    if hit:
                        await asyncio.sleep(rng.random() * 0.03)  # in mid-evaluation
                        pool.disturb(rng.choice(KINDS), rng)
                    await asyncio.wait_for(asked, 120.0)
                    if step == _SETTLED:
                        begin = Use.of(server.pid)
                    pool.look()
                end = Use.of(server.pid)
            await asyncio.to_thread(server.wait, 30.0)
        except BaseException:
            sys.stderr.write((folder / "serve.log").read_text()[-3000:])
            raise
        finally:
            server.kill()
            server.wait()
            await pool.close()
        records = (folder / "runs" / "0001" / "mixserver.jsonl").read_text().splitlines()
        regions = {(one["core"], one["blend"]) for one in map(json.loads, records)}
        left = [f"process {pid}" for pid in processes(made)]
        left += [f"temporary file {path.name}" for path in (folder / "tmp").iterdir()]
    return Outcome(ipi, begin, end, pool, len(regions), left)


async def scenario(
    name: str, jobs: str, evaluations: int, every: float, seed: int
) -> tuple[str, bool]:
    calm = await trajectory(name, jobs, evaluations, 1, 0.0, seed)
    wild = await trajectory(name, jobs, evaluations, 3, every, seed)
    same = sum(a == b for a, b in zip(calm.ipi.digests, wild.ipi.digests, strict=True))
    usual, slow = (1e3 * statistics.median(one.ipi.seconds) for one in (calm, wild))
    late = sorted(wild.ipi.seconds)
    grown = [one.end.memory_mb - one.begin.memory_mb for one in (calm, wild)]
    wrong = [*wild.left, *wild.pool.unwanted_ends]
    if wild.end.threads > wild.begin.threads:
        wrong.append("threads")
    if wild.end.files > wild.begin.files + 6:  # those of workers that come and go just then
        wrong.append("file descriptors")
    events = ", ".join(f"{count} {kind}" for kind, count in sorted(wild.pool.counts.items()))
    distinct = len(set(calm.ipi.digests))
    cells = [
        name,
        f"{same} of {evaluations} ({distinct} distinct, {wild.regions} regions)",
        f"{wild.pool.counts.total()}: {events}",
        f"{usual:.0f}, {slow:.0f}",
        f"{late[int(0.99 * len(late))]:.2f}, {late[-1]:.2f}",
        f"{wild.begin} -> {wild.end} ({grown[1]:+.1f} MB, calm {grown[0]:+.1f})",
        "; ".join(wrong) or "nothing",
    ]
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()
    good = same == evaluations and not wrong and distinct == evaluations
    return events, good


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--evaluations", type=int, default=3440)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(SCENARIOS))
    parser.add_argument("--jobs", choices=list(JOBS), default="whole")
    asked = parser.parse_args()
    names = [asked.only] if asked.only else list(SCENARIOS)
    if (each := asked.evaluations // len(names)) <= _SETTLED:
        parser.error(f"--evaluations: more than {_SETTLED} for each of {len(names)} cases")
    before, began = shared_memory(), time.monotonic()
    sys.stdout.write(
        "| case | equal bits | events | median ms calm, wild | p99, max s | server | left |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    good = Counter[bool]()
    for number, name in enumerate(names):
        _, fine = await scenario(name, asked.jobs, each, asked.every, asked.seed + number)
        good[fine] += 1
    new = sorted(path.name for path in shared_memory() - before)
    sys.stdout.write(f"new in /dev/shm, of this or other programs: {new or 'nothing'}\n")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s; {good[False]} cases failed\n")
    return int(bool(good[False]))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(asyncio.run(main()))
