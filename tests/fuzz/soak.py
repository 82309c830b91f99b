"""Soak: a long run of a small system; what its processes hold must not grow.

    python tests/fuzz/soak.py [--evaluations 200000] [--case follow|criterion]

`mixserver run` with i-PI and one toy worker a role answers so many evaluations of 32 atoms. Memory,
file descriptors and threads of server, workers and i-PI are sampled all the time. Prints a table by
tenths of the run: the medians of each tenth. The first tenth is the warm-up; the exit status is 1
if the memory of any process in the last tenth is 1 % above that in the second, or if it has more
file descriptors or threads. Takes a quarter of an hour to an hour. SIGTERM and Ctrl-C end the run
early; the table is printed as far as it has come.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from process_use import Use, children, command

from mixserver.core.processes import environment_program

_CELLS: Final = 2
_LATTICE: Final = 5.3
"""Å, of argon."""
_ALLOWED: Final = 1.01
_TENTHS: Final = 10
_PAUSE_S: Final = 0.5

_INPUT: Final = """\
<simulation verbosity='low'>
  <output prefix='simulation'>
    <properties stride='100' filename='out'> [ step, temperature, potential ] </properties>
    <checkpoint stride='1000' filename='chk' overwrite='true'/>
  </output>
  <total_steps> 100 </total_steps>
  <prng> <seed> 31415 </seed> </prng>
  <ffsocket name='mixserver' mode='unix' pbc='false'> <address> soak </address> </ffsocket>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'> init.xyz </file>
      <velocities mode='thermal' units='kelvin'> 30 </velocities>
    </initialize>
    <forces> <force forcefield='mixserver'/> </forces>
    <ensemble> <temperature units='kelvin'> 30 </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nvt' splitting='baoab'>
        <timestep units='femtosecond'> 2.0 </timestep>
        <thermostat mode='langevin'> <tau units='femtosecond'> 200 </tau> </thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""
_CASES: Final = {
    "follow": (
        'follow = true\nseeds = { kind = "atoms", indices = [5] }',
        'kind = "energy"\nzeros = { Ar = 0.0 }',
    ),
    "criterion": (
        'seeds = { kind = "criterion", compute = "coord/atom cutoff 4.1", high = 11.5, every = 5, '
        "initial = [5], sample_every = 2, samples = 2 }\n"
        "hysteresis = { time_in = 4.0, time_out = 20.0 }",
        'kind = "force"',
    ),
}


def write_case(folder: Path, name: str) -> None:
    region, mixing = _CASES[name]
    cells = [(i, j, k) for i in range(_CELLS) for j in range(_CELLS) for k in range(_CELLS)]
    basis = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
    places = [[_LATTICE * (a + b) for a, b in zip(c, d, strict=True)] for c in cells for d in basis]
    side = _CELLS * _LATTICE
    named = "positions{angstrom} cell{angstrom}"
    head = f"# CELL(abcABC): {side} {side} {side} 90.0 90.0 90.0 {named}"
    lines = [f"Ar {x} {y} {z}" for x, y, z in places]
    (folder / "init.xyz").write_text("\n".join([str(len(places)), head, *lines, ""]))
    (folder / "input.xml").write_text(_INPUT)
    toy = '"--sigma", "3.4", "--cutoff", "4.8"'
    (folder / "mix.toml").write_text(
        f'[upstream]\naddress = "unix:soak"\nstructure = "init.xyz"\n'
        f"[region]\ncore_radius = 2.0\nblend_width = 2.0\n{region}\n"
        f"[mixing]\n{mixing}\n[models.cheap]\n[models.expensive]\n"
        f'[[local]]\nrole = "cheap"\ncommand = ["toy", "--epsilon", "0.0104", {toy}]\n'
        f'[[local]]\nrole = "expensive"\ncommand = ["toy", "--epsilon", "0.0120", {toy}]\n'
    )


def kind(pid: int) -> str:
    """What a process of the run is; "" for any other."""
    words = command(pid)
    if "mixserver-worker" in words or "mixserver_worker" in words:
        return "cheap worker" if "cheap" in words else "expensive worker"
    if "mixserver.ipi.host" in words or "i-pi" in words:
        return "i-PI"
    return "server" if "mixserver" in words and " run " in words else ""


def evaluations(records: Path) -> int:
    """The number of the latest record."""
    try:
        with records.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["evaluation"]) + 1
    except (OSError, IndexError, ValueError):
        return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--evaluations", type=int, default=200_000)
    parser.add_argument("--case", choices=list(_CASES), default="follow")
    asked = parser.parse_args()
    samples: dict[str, list[list[Use]]] = defaultdict(lambda: [[] for _ in range(_TENTHS)])
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        folder = Path(made)
        write_case(folder, asked.case)
        records = folder / "runs" / "0001" / "mixserver.jsonl"
        run = subprocess.Popen(
            [environment_program("mixserver"), "run", made, "--steps", str(asked.evaluations - 1)],
            stdout=subprocess.DEVNULL,
            stderr=(folder / "stderr").open("wb"),
            start_new_session=True,  # Ctrl-C reaches it through this program, once
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: run.send_signal(signal.SIGINT))
        try:
            tenth = -1
            while run.poll() is None:
                time.sleep(_PAUSE_S)
                done = evaluations(records)
                now = min(_TENTHS - 1, done * _TENTHS // asked.evaluations)
                if now != tenth:
                    tenth = now
                    sys.stdout.write(f"{time.monotonic() - began:.0f} s: {done} evaluations\n")
                    sys.stdout.flush()
                if done:
                    for pid in (run.pid, *children(run.pid)):
                        try:
                            if name := kind(pid):
                                samples[name][tenth].append(Use.of(pid))
                        except (OSError, KeyError):
                            continue  # it has ended
        finally:
            run.send_signal(signal.SIGINT)
            code = run.wait()
        done = evaluations(records)
        size = records.stat().st_size
        if code:
            sys.stdout.write((folder / "stderr").read_text()[-2000:])
    taken = time.monotonic() - began
    sys.stdout.write(f"{asked.case}: {done} evaluations in {taken:.0f} s, status {code}; ")
    sys.stdout.write(f"records {size / 1e6:.0f} MB\n")
    good = code == 0 and done >= asked.evaluations and len(samples) == 4
    for name, tenths in samples.items():
        good &= show(name, tenths)
    return int(not good)


def show(name: str, tenths: list[list[Use]]) -> bool:
    """Print one process's line; whether it has not grown."""
    medians = [
        [statistics.median(getattr(use, what) for use in some) for some in tenths if some]
        for what in ("memory_kb", "files", "threads")
    ]
    memory, files, threads = medians
    if len(memory) < 3:
        sys.stdout.write(f"| {name} | too few samples |\n")
        return False
    ratio = memory[-1] / memory[1]
    cells = [
        " ".join(f"{kb / 1024:.2f}" for kb in memory) + f" MB ({100 * (ratio - 1):+.2f} %)",
        f"{files[1]:g} -> {files[-1]:g} fd",
        f"{threads[1]:g} -> {threads[-1]:g} threads",
    ]
    sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
    return ratio < _ALLOWED and files[-1] <= files[1] and threads[-1] <= threads[1]


if __name__ == "__main__":
    sys.exit(main())
