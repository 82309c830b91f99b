"""Strangers at every address of a run that goes on: nothing of it changes, and little of its time.

    python tests/fuzz/doors.py [--seconds 600] [--window 4] [--seed 1] [--only KIND ...]

A real `mixserver run` of inputs/minimal with all its addresses on TCP. One window an attack goes
on, the next one none does, and so on through all kinds of `attacks.py`. The same run goes on
beside it with nobody there: all energies must be equal to the last bit, and so must i-PI's output.
The median time of a step in windows with an attack, over that in windows without, must be below 1.2
in all. The server must hold no more than before: file descriptors equal, memory within 25 %, and
within 3 % of what it held after the first round, in which buffers grow to their lasting size;
threads equal but for those of asyncio's pool, which grows when two calls overlap and never beyond
its limit. Prints a table; the exit status is 1 if anything of this is not so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from attacks import KINDS
from process_use import Use

from mixserver.core.processes import environment_program

_INPUTS: Final = Path(__file__).parents[2] / "inputs"
_MANY: Final = 1_000_000
_PLACES: Final = ("workers", "status", "clients")
_INTERRUPTED: Final = 130
_RATIO: Final = 1.2
_GROWN: Final = 1.25
"""ZeroMQ keeps the memory of the most connections that were ever open together."""
_LATER: Final = 1.03
"""After a round of all kinds there is nothing more to keep."""
_POOL: Final = min(32, (os.cpu_count() or 1) + 4)
"""Most threads of asyncio's pool, which makes one when none of them is free."""
_BURST_S: Final = 1.2
"""Attacks that open many connections have opened them by then."""
_LIMIT_S: Final = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Run:
    """One `mixserver run`, open to this machine.

    Args:
        folder: of the case, which is made.
        steps: in all.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        shutil.copytree(_INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
        self.places = {place: free_port() for place in _PLACES}
        mix = folder / "mix.toml"
        text = mix.read_text().replace('kind = "energy"', 'kind = "force"')  # as stock clients need
        text = text.replace("follow = true", "")
        mix.write_text(
            f'{text}\n[workers]\nclients = "127.0.0.1:{self.places["clients"]}"\n'
            f'[status]\naddress = "tcp://127.0.0.1:{self.places["status"]}"\n'
        )
        self.log = (folder / "stderr").open("wb")
        door = f"tcp://127.0.0.1:{self.places['workers']}"
        options = ("--quiet", "--steps", str(steps), "--door", door)
        self.process = subprocess.Popen(
            [environment_program("mixserver"), "run", folder, *options],
            stdout=self.log,
            stderr=self.log,
        )
        self._records: IO[bytes] | None = None
        self.times: list[float] = []
        self.energies: list[float] = []

    @property
    def results(self) -> Path:
        return self.folder / "runs" / "0001"

    def read(self) -> int:
        """Read the records that have come; the number of steps in all."""
        if self._records is None:
            file = self.results / "mixserver.jsonl"
            if not file.exists():
                return 0
            self._records = file.open("rb")
        while (line := self._records.readline()).endswith(b"\n"):
            record = json.loads(line)
            self.times.append(record["time_s"])
            self.energies.append(record["energy"])
        self._records.seek(-len(line), 1)
        return len(self.times)

    def go_on(self, steps: int) -> None:
        """Wait until so many steps more are made."""
        wanted, until = self.read() + steps, time.monotonic() + _LIMIT_S
        while self.read() < wanted:
            if self.process.poll() is not None or time.monotonic() > until:
                self.log.flush()
                tail = (self.folder / "stderr").read_text()[-3000:]
                raise RuntimeError(f"the run does not go on after {len(self.times)} steps: {tail}")
            time.sleep(0.05)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(_LIMIT_S)
        self.read()
        if self._records is not None:
            self._records.close()
        self.log.close()
        return code

    def output(self) -> list[str]:
        """i-PI's own lines."""
        lines = (self.results / "simulation.out").read_text().splitlines()
        return [line for line in lines if not line.startswith("#")]


@dataclass
class Seen:
    """The steps of one kind's windows."""

    calm_ms: list[float] = field(default_factory=list)
    begun_ms: list[float] = field(default_factory=list)
    """In the first `_BURST_S`, while peers connect."""
    later_ms: list[float] = field(default_factory=list)
    count: int = 0
    use: Use | None = None
    """What the server held at the end of the attack, before its peers left."""


class Attacker:
    """The program that attacks."""

    def __init__(self, places: dict[str, int], seed: int) -> None:
        ports = [str(places[place]) for place in _PLACES]
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("attacks.py"), *ports, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def begin(self, kind: str, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{kind} {seconds}\n")
        self.process.stdin.flush()

    def ended(self) -> int:
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the attacking program has ended")
        return line

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Held:
    """What the server held."""

    before: Use
    rounds: list[Use] = field(default_factory=list)
    """After each round of all kinds."""

    @property
    def grown(self) -> str:
        """What it keeps that it need not; "" for nothing."""
        before, first, last = self.before, self.rounds[0], self.rounds[-1]
        kept = {
            "file descriptors": last.files > before.files,
            "threads": last.threads > before.threads + _POOL - 1,
            "memory": last.memory_kb > min(_GROWN * before.memory_kb, _LATER * first.memory_kb),
        }
        if not any(kept.values()):
            return ""
        what = " and ".join(name for name, more in kept.items() if more)
        return f"{what} grew: {self}"

    def __str__(self) -> str:
        return f"before {self.before}, after each round {'; '.join(map(str, self.rounds))}"


def siege(
    run: Run, kinds: list[str], seconds: float, window: float, seed: int
) -> tuple[dict[str, Seen], Held]:
    """Attack a run in windows: whole rounds of all kinds, two at least."""
    seen: dict[str, Seen] = defaultdict(Seen)
    held = Held(Use.of(run.process.pid))
    attacker = Attacker(run.places, seed)
    until = time.monotonic() + seconds
    try:
        while True:
            for kind in kinds:
                one = seen[kind]
                one.calm_ms += window_of(run, window)
                attacker.begin(kind, window)
                one.begun_ms += window_of(run, _BURST_S)
                one.later_ms += window_of(run, 0.9 * window - _BURST_S)
                one.use = Use.of(run.process.pid)
                one.count += attacker.ended()
                run.go_on(3)  # what was queued
            held.rounds.append(settled(run, held.before))
            if time.monotonic() > until and len(held.rounds) > 1:
                return seen, held
    finally:
        attacker.close()


def window_of(run: Run, seconds: float) -> list[float]:
    """The times of the steps of so many seconds, in ms; at least a few steps."""
    first, until = run.read(), time.monotonic() + seconds
    run.go_on(5)
    while time.monotonic() < until:
        run.go_on(1)
    times = run.times[first:]
    return [1e3 * (b - a) for a, b in itertools.pairwise(times)]


def compared(attacked: Run, calm: Run) -> list[str]:
    """What differs between the same run with and without attacks, as far as both have come."""
    steps = min(len(attacked.energies), len(calm.energies))
    outputs = attacked.output(), calm.output()
    lines = min(map(len, outputs)) - 1
    wrong = []
    if attacked.energies[:steps] != calm.energies[:steps]:
        wrong.append("energies differ")
    if outputs[0][:lines] != outputs[1][:lines]:
        wrong.append("i-PI's output differs")
    if len(set(calm.energies)) < steps / 2 or lines < steps / 2:
        wrong.append("nothing moved")
    sys.stdout.write(f"{steps} energies and {lines} lines of i-PI's output compared\n")
    return wrong


@dataclass
class Siege:
    """A run that was attacked."""

    seen: dict[str, Seen]
    held: Held
    log_mb: float
    wrong: list[str]
    """What is not as in the run in peace; times and what the server holds are judged apart."""


def besieged(folder: Path, kinds: list[str], seconds: float, window: float, seed: int) -> Siege:
    """Attack a run while the same one goes on in peace, and compare them."""
    calm, run = (Run(folder / name, _MANY) for name in ("calm", "attacked"))
    try:
        run.go_on(100)
        seen, held = siege(run, kinds, seconds, window, seed)
        calm.go_on(max(1, len(run.times) - calm.read()))
        codes = {run.end(), calm.end()}
    finally:
        for one in (calm, run):
            one.process.kill()
            one.process.wait()
    log = (run.results / "server.log").read_text()
    wrong = compared(run, calm)
    if codes != {_INTERRUPTED}:
        wrong.append(f"the runs ended with status {codes}")
    lines = [line for line in log.splitlines() if "worker lost" in line and "-0" in line]
    lost = [line for line in lines if "SIGTERM" not in line]  # of the end
    wrong += [f"workers were lost: {lost[:3]}"] if lost else []
    wrong += ["an exception was caught"] if "caught an exception" in log else []
    return Siege(seen, held, len(log) / 1e6, wrong)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--window", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="doors-") as made:
        done = besieged(Path(made), asked.only, asked.seconds, asked.window, asked.seed)
    wrong = [*done.wrong, *show(done.seen)]
    wrong += [done.held.grown] if done.held.grown else []
    sys.stdout.write(
        f"server {done.held}; server.log {done.log_mb:.2f} MB\n"
        f"wrong: {'; '.join(wrong) or 'nothing'}\n"
    )
    return int(bool(wrong))


def settled(run: Run, before: Use) -> Use:
    """What the server holds once it has noticed that connections are gone."""
    until = time.monotonic() + 60.0
    run.go_on(20)
    while (use := Use.of(run.process.pid)).files > before.files and time.monotonic() < until:
        run.go_on(10)
    return use


def show(seen: dict[str, Seen]) -> list[str]:
    """Print the table; what is too slow."""
    sys.stdout.write(
        f"| attack | sent | ms a step without, with | ratio | in the first {_BURST_S:g} s, later | "
        "server meanwhile |\n|---|---|---|---|---|---|\n"
    )
    calm, attacked = [], []
    for kind, one in seen.items():
        calm += one.calm_ms
        attacked += one.begun_ms + one.later_ms
        a, b = statistics.median(one.calm_ms), statistics.median(one.begun_ms + one.later_ms)
        parts = f"{statistics.median(one.begun_ms) / a:.2f}, "
        parts += f"{statistics.median(one.later_ms) / a:.2f}"
        sys.stdout.write(
            f"| {kind} | {one.count} | {a:.1f}, {b:.1f} | {b / a:.2f} | {parts} | {one.use} |\n"
        )
    a, b = statistics.median(calm), statistics.median(attacked)
    sys.stdout.write(f"| all | | {a:.1f}, {b:.1f} | {b / a:.2f} | | |\n")
    return [f"steps take {b / a:.2f} times as long"] if b / a > _RATIO else []


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
