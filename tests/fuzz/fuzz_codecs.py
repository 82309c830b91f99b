"""Fuzzes the codecs: hostile input raises the documented error, and quickly; it takes no memory.

    python tests/fuzz/fuzz_codecs.py [worker status ...] [--count 1000000] [--seed 1] [--seconds S]
    python tests/fuzz/fuzz_codecs.py worker --seed 1 --first 123456 --count 1   one input again

Inputs are valid messages with something wrong in them. Each is made from the seed and its number
alone. The address space is limited to what the process holds at its start and 1 GiB: an allocation
that follows an absurd count raises MemoryError, which counts as a fault. Prints a table, and the
first inputs of each fault; the exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from targets import TARGETS, Input, Target

_SPARE: Final = 1 << 30
_SHOWN: Final = 2
_LOOK_EVERY: Final = 1000


@dataclass
class Outcome:
    """What became of the inputs of one target."""

    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    """CPU time of the codec alone."""
    slowest_s: float = 0.0
    slowest: int = 0
    """The number of the slowest input."""
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def number_of(seed: int, name: str, number: int) -> random.Random:
    """The random numbers from which one input is made."""
    return random.Random(f"{seed} {name} {number}")


def fuzz(name: str, count: int, *, seed: int = 1, first: int = 0, until: float = 0.0) -> Outcome:
    """Run inputs of one target.

    Args:
        name: of the target.
        count: inputs.
        seed: of all of them.
        first: the number of the first one.
        until: time.monotonic() at which to stop; 0 for never.
    """
    target: Target = TARGETS[name]
    outcome = Outcome()
    for number in range(first, first + count):
        given = target.make(number_of(seed, name, number))
        began = time.thread_time()
        try:
            outcome.accepted += target.run(given)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
            outcome.faults[kind] += 1
            if outcome.faults[kind] <= _SHOWN:
                trace = "".join(traceback.format_exception(error)[-3:])
                outcome.examples.append(f"{name} {number}: {given!r:.2000}\n{trace}")
        taken = time.thread_time() - began
        outcome.inputs += 1
        outcome.seconds += taken
        if taken > outcome.slowest_s:  # once more, because Python collects garbage now and then
            taken = min(taken, _seconds(target, given))
            if taken > outcome.slowest_s:
                outcome.slowest_s, outcome.slowest = taken, number
        if until and number % _LOOK_EVERY == 0 and time.monotonic() > until:
            break
    return outcome


def _seconds(target: Target, given: Input) -> float:
    began = time.thread_time()
    with contextlib.suppress(Exception):  # it was counted the first time
        target.run(given)
    return time.thread_time() - began


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="a target at most; 0: no limit")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such targets: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    warnings.simplefilter("error")
    for name in asked.targets or TARGETS:
        fuzz(name, 100)  # imports and caches
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + _SPARE, held + _SPARE))
    sys.stdout.write(
        "| codec | inputs | accepted | faults | inputs per CPU second | slowest | peak memory |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    faults = 0
    for name in asked.targets or TARGETS:
        until = time.monotonic() + asked.seconds if asked.seconds else 0.0
        outcome = fuzz(name, asked.count, seed=asked.seed, first=asked.first, until=until)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        said = ", ".join(f"{n} {kind}" for kind, n in outcome.faults.items()) or "0"
        cells = [
            name,
            str(outcome.inputs),
            f"{100 * outcome.accepted / outcome.inputs:.0f} %",
            said,
            f"{outcome.inputs / outcome.seconds:.0f}",
            f"{1e3 * outcome.slowest_s:.1f} ms (input {outcome.slowest})",
            f"{peak:.0f} MB",
        ]
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()
        for example in outcome.examples:
            sys.stderr.write(f"{example}\n")
        faults += outcome.faults.total()
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
