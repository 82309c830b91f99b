"""Compare what i-PI wrote in two runs of the same case.

    python3 compare.py [--steps N] REFERENCE RUN [CONTINUATION...]

Each argument is a run's folder. All properties, positions and forces of RUN must be those of
REFERENCE to the last digit. A CONTINUATION starts from a checkpoint, in which i-PI keeps nine
digits: from its first step on, numbers may differ by 1e-4 of their size, or of 1.

With --steps only the first N steps are compared.

Exit status 1, with the file, the step and the difference, if they are not the same.
"""

import argparse
import re
import sys
from pathlib import Path

ROUNDING = 1e-4
NUMBER = re.compile(r"[-+]?\d+\.\d*(?:[eE][-+]?\d+)?")
Table = dict[tuple[str, int], str]
"""What was written, by file and step."""


def read(run: Path, steps: int) -> Table:
    """The rows and frames of a run's simulation.* files, up to a step."""
    table: Table = {}
    for file in sorted(run.glob("simulation.*")):
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".out":
            rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
            table |= {(file.name, round(float(row[0]))): " ".join(row) for row in rows}
        elif file.suffix == ".xyz":
            for frame in re.split(r"(?m)^(?=\s*\d+\n#)", text):
                step = re.search(r"Step:\s+(\d+)", frame)
                if step:
                    table[file.name, int(step[1])] = " ".join(frame.split())
    return {key: text for key, text in table.items() if key[1] <= steps}


def difference(one: str, other: str) -> float:
    """The largest difference of the numbers in two texts, relative to the number or to 1."""
    ours, theirs = ([float(word) for word in NUMBER.findall(text)] for text in (one, other))
    if len(ours) != len(theirs) or NUMBER.sub("", one) != NUMBER.sub("", other):
        return float("inf")
    return max(
        (abs(a - b) / max(1.0, abs(a)) for a, b in zip(ours, theirs, strict=True)), default=0
    )


def main(reference: Path, runs: list[Path], steps: int) -> str:
    """What was compared.

    Raises:
        SystemExit: the runs are not the same.
    """
    wanted = read(reference, steps)
    files = sorted({name for name, _ in wanted})
    for needed in (".out", ".pos", ".frc"):
        if not any(needed in name for name in files):
            sys.exit(f"{reference} has no simulation file with {needed}: nothing to compare")
    exact, rounded = read(runs[0], steps), Table()
    for run in runs[1:]:
        later = read(run, steps)
        first = min(step for _, step in later)
        exact = {key: text for key, text in exact.items() if key[1] < first}
        rounded |= later
    if wanted.keys() != exact.keys() | rounded.keys():
        odd = sorted(wanted.keys() ^ (exact.keys() | rounded.keys()))[:3]
        sys.exit(f"{[str(run) for run in runs]} and {reference} have other steps: {odd} ...")
    lines = []
    for name in files:
        worst = 0.0
        for key in sorted(key for key in wanted if key[0] == name):
            if key in rounded:
                off = difference(wanted[key], rounded[key])
                worst = max(worst, off)
                wrong = off > ROUNDING
            else:
                wrong = wanted[key] != exact[key]
                off = difference(wanted[key], exact[key])
            if wrong:
                sys.exit(f"{name}, step {key[1]}: differs from the reference by {off:.3g}")
        same = sum(key[0] == name for key in exact)
        more = sum(key[0] == name for key in rounded)
        lines.append(f"  {name}: {same} steps equal to the last digit")
        lines += [f"    {more} after a restart equal within {worst:.1e}"] if more else []
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--steps", type=int, default=sys.maxsize)
    parser.add_argument("reference", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    sys.stdout.write(main(given.reference, given.runs, given.steps) + "\n")
