"""A run over two nodes whose link is cut: it goes on afterwards and gives the same trajectory.

    python tests/chaos/two_nodes.py [--steps 100] [--cut 30] [--toy]

The server and i-PI are on one node; LAMMPS on two MPI ranks and MACE, with keys, on the other. The
case (silicon with a vacancy, whose region has a memory) runs twice from the same start:
undisturbed, and with the link cut for a while in mid-run, when both nodes ask for the status.
Prints figures; ends with status 1 if any output of i-PI differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from nodes import Network, become_root, network

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LIMIT_S = 900.0
"""Longest wait for anything."""
OUTPUTS = ("simulation.out", "simulation.pos_0.xyz", "simulation.mix_0")
"""Files of i-PI that must not differ in a single byte."""
TOY = ["--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "7.0", "--seconds", "0.1"]


@dataclass
class Setting:
    """What is run."""

    case: str
    workers: dict[str, list[str]]
    """Command of the worker of each role."""
    steps: int
    cut_s: float


@dataclass
class Outcome:
    """What one run left and how long it took."""

    folder: Path
    seconds: float
    gap_s: float = 0.0
    """Longest time between two evaluations."""
    after_s: float = 0.0
    """From mending the link to the next evaluation."""
    seen: dict[str, int] = field(default_factory=dict)
    """Exit status of `mixserver status --check` while the link was cut, by node."""
    counts: dict[str, int] = field(default_factory=dict)


def setting(arguments: argparse.Namespace) -> Setting:
    """What is run, from the command line."""
    if arguments.toy:
        workers = {"cheap": ["toy", *TOY], "expensive": ["toy", *TOY]}
        return Setting("minimal", workers, arguments.steps, arguments.cut)
    lammps = ["lammps", str(ROOT / "inputs/silicon_distill/potential/si.in")]
    mace = ["mace", str(ROOT / "inputs/silicon_vacancy/model/si_mace.model")]
    mace += ["--device", "cpu", "--dtype", "float32", "--threads", "1"]
    return Setting(
        "silicon_vacancy", {"cheap": lammps, "expensive": mace}, arguments.steps, arguments.cut
    )


def prepared(what: Setting, folder: Path, address: str) -> Path:
    """A copy of the case for workers from elsewhere, with keys."""
    case = folder / "case"
    shutil.copytree(
        ROOT / "inputs" / what.case, case, ignore=shutil.ignore_patterns("runs", "model")
    )
    text = (case / "mix.toml").read_text()
    # the [[local]] tables come last
    text = text[: text.index("[[local]]")]
    text += f'[workers]\ndoor = "tcp://{address}:5555"\nkeys = "keys"\n'
    text += f'[status]\naddress = "tcp://{address}:5556"\n'
    (case / "mix.toml").write_text(text)
    subprocess.run([BIN / "mixserver", "keys", "new", "compute", "--keys", case / "keys"],
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    xml = (case / "input.xml").read_text()
    (case / "input.xml").write_text(xml.replace("stride='50'", "stride='5'"))
    return case


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that has ended after this context."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def records(case: Path) -> list[dict[str, object]]:
    """The evaluations of the run so far."""
    try:
        text = (case / "runs/0001/mixserver.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def until(case: Path, count: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for so many evaluations."""
    limit = time.monotonic() + LIMIT_S
    while len(records(case)) < count:
        if server.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"only {len(records(case))} evaluations: {log.read_text()[-3000:]}")
        time.sleep(0.05)


def run(what: Setting, nodes: Network, folder: Path, *, cut: bool) -> Outcome:
    """Run the case once."""
    folder.mkdir()
    case = prepared(what, folder, nodes.address["head"])
    keys = {
        "MIXSERVER_KEY_FILE": str(case / "keys/compute.key"),
        "MIXSERVER_SERVER_KEY_FILE": str(case / "keys/server.pub"),
        "OMP_NUM_THREADS": "1",
    }
    head, compute = nodes.nodes["head"], nodes.nodes["compute"]
    address = f"tcp://{nodes.address['head']}"
    log = folder / "log"
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        began = time.monotonic()
        steps = ("--steps", str(what.steps))
        server = head.start(BIN / "mixserver", "run", case, "--quiet", *steps, log=output)
        stack.enter_context(ended(server))
        for role, command in what.workers.items():
            words: Sequence[str | Path] = [BIN / "mixserver-worker", *command]
            if command[0] == "lammps":
                words = [BIN / "mpiexec", "-n", "2", "-launcher", "fork", *words]
            where = ("--server", f"{address}:5555", "--role", role, "--name", f"{role}-1")
            worker = compute.start(*words, *where, log=output, environment=keys)
            stack.enter_context(ended(worker))
        outcome = Outcome(case / "runs/0001", 0.0)
        if cut:
            until(case, what.steps // 3, server, log)
            nodes.unplug("compute")
            mend = time.monotonic() + what.cut_s
            # later than the patience, so that the loss has been noticed
            time.sleep(min(0.7 * what.cut_s, 15.0))
            check = (BIN / "mixserver", "status", f"{address}:5556", "--check", "--timeout", "2")
            environment = {**os.environ, **keys}
            for node in (head, compute):
                done = node.run(*check, env=environment)
                outcome.seen[node.name] = done.returncode
                say(f"  cut, on {node.name}: {(done.stdout + done.stderr).strip()}")
            time.sleep(max(0.0, mend - time.monotonic()))
            before = len(records(case))
            nodes.plug("compute")
            mended = time.monotonic()
            until(case, before + 1, server, log)
            outcome.after_s = time.monotonic() - mended
            asked = compute.run(*check[:3], "--json", env=environment)
            if asked.returncode != 0:
                raise RuntimeError(f"the status after mending: {asked.stderr}")
            outcome.counts = json.loads(asked.stdout)["counts"]
        server.wait(LIMIT_S)
        outcome.seconds = time.monotonic() - began
        if server.returncode != 0:
            raise RuntimeError(f"the run failed: {log.read_text()[-3000:]}")
    times = [float(str(record["time_s"])) for record in records(case)]
    outcome.gap_s = max(b - a for a, b in itertools.pairwise(times))
    return outcome


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Outputs of i-PI and energies that are not the same to the last bit."""
    found = [
        name
        for name in OUTPUTS
        if (one.folder / name).read_bytes() != (other.folder / name).read_bytes()
    ]
    energies = [[r["energy"] for r in records(o.folder.parents[1])] for o in (one, other)]
    return found + (["energies of mixserver.jsonl"] if energies[0] != energies[1] else [])


def main() -> int:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--cut", type=float, default=30.0, metavar="S", help="seconds")
    parser.add_argument("--toy", action="store_true", help="toy models, without LAMMPS and MACE")
    arguments = parser.parse_args()
    become_root()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left
    what = setting(arguments)
    with tempfile.TemporaryDirectory(prefix="two-nodes-") as temporary:
        folder = Path(temporary)
        with network(("head", "compute"), folder) as nodes:
            calm = run(what, nodes, folder / "calm", cut=False)
            say(
                f"undisturbed: {what.steps} steps in {calm.seconds:.1f} s, longest gap between "
                f"evaluations {calm.gap_s:.2f} s"
            )
            torn = run(what, nodes, folder / "cut", cut=True)
        say(
            f"link cut for {what.cut_s:g} s: {torn.seconds:.1f} s, longest gap {torn.gap_s:.2f} s, "
            f"next evaluation {torn.after_s:.2f} s after mending; {torn.counts}"
        )
        differ = differences(calm, torn)
        say(f"outputs that differ: {', '.join(differ) or 'none, all equal to the last bit'}")
        wrong = torn.seen != {"head": 1, "compute": 2}
        if wrong:
            say(f"status while cut must be 1 on head and 2 on compute, was {torn.seen}")
        return 1 if differ or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
