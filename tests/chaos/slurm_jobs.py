"""The job scripts on a real Slurm: three nodes in network namespaces, with their own slurmd.

    python tests/chaos/slurm_jobs.py [--steps 20]

Needs Slurm (Debian: slurmctld slurmd slurm-client munge), a user that may make namespaces, and
nothing that runs already. Submits server.sbatch, mace.sbatch and lammps_mpi.sbatch (one rank on
each of two nodes) with keys, for silicon with a vacancy; sends the server's job the signal that it
gets before its time is up; waits until it has queued itself again, continued (after Slurm's own
delay of 2 min), and ended with all workers. Exits with status 1 unless every step was made once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from nodes import Network, Node, become_root, network

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
JOBS = ROOT / "docker/deploy/slurm"
NODES = ("head", "node1", "node2")
LIMIT_S = 400.0
CONFIGURATION = """ClusterName=here
SlurmctldHost=head
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
GresTypes=gpu
NodeName=head,node1,node2 CPUs=4 RealMemory=4000 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def slurm(nodes: Network, folder: Path) -> Iterator[Node]:
    """A cluster inside this context; yields the node for its commands."""
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder))
    (folder / "gpu").touch()
    (folder / "gres.conf").write_text(f"NodeName=head,node1,node2 Name=gpu File={folder}/gpu\n")
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munge += [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
    head = nodes.nodes["head"]
    daemons: list[subprocess.Popen[bytes]] = []
    with (folder / "daemons.log").open("wb") as log:
        try:
            daemons.append(head.start(*munge, log=log))
            time.sleep(1.0)
            daemons.append(head.start("slurmctld", "-D", log=log))
            daemons += [nodes.nodes[name].start("slurmd", "-D", log=log) for name in NODES]
            until(lambda: head.run("sinfo", "--noheader", "-o", "%t %D").stdout == "idle 3\n",
                  lambda: f"three idle nodes: {(folder / 'daemons.log').read_text()}")  # fmt: skip
            yield head
        finally:
            if jobs := head.run("squeue", "-h", "-o", "%A").stdout.split():
                head.run("scancel", "--full", *jobs)
                until(lambda: not head.run("squeue", "-h").stdout, lambda: "the end of all jobs")
            for daemon in daemons[::-1]:
                daemon.terminate()
                daemon.wait()


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for something; `what` says what it was, and what may explain that it never came."""
    limit = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise RuntimeError(f"never came: {what()}")
        time.sleep(0.5)


def prepared(folder: Path, steps: int) -> Path:
    """The case, with keys for its workers."""
    case = folder / "case"
    shutil.copytree(ROOT / "inputs/silicon_vacancy", case, ignore=shutil.ignore_patterns("runs"))
    text = (case / "mix.toml").read_text()
    text = text[: text.index("[[local]]")]  # they come last
    text += '[workers]\ndoor = "tcp://0.0.0.0:5555"\nkeys = "keys"\n'
    (case / "mix.toml").write_text(text)
    xml = (case / "input.xml").read_text()
    (case / "input.xml").write_text(xml.replace("> 200 <", f"> {steps} <"))
    for name in ("gpu", "lammps"):
        command = [BIN / "mixserver", "keys", "new", name, "--keys", case / "keys"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return case


def made(case: Path) -> list[int]:
    """Steps that i-PI has written, over all runs."""
    lines: list[str] = []
    for file in sorted(case.glob("runs/0*/simulation.out")):
        lines += file.read_text().splitlines()
    return [int(float(line.split()[0])) for line in lines if not line.startswith("#")]


def play(head: Node, case: Path, steps: int) -> int:
    """Submit the jobs, have the server's stopped and continued, and count the steps."""
    more = {
        "CASE": str(case),
        "VENV": str(BIN.parent),
        "DEPLOY": str(JOBS.parent),
        "DEVICE": "cpu",
        "UCX_TLS": "tcp,self",  # the nodes share a memory, which those of a cluster do not
        "MODEL": str(case / "model/si_mace.model"),
        "COMMANDS": str(ROOT / "inputs/silicon_distill/potential/si.in"),
    }

    def submit(script: str, *options: str) -> str:
        """The number of a new job."""
        output = f"--output={case}/{script}.%a.log"
        done = head.run("sbatch", "--parsable", "--cpus-per-task=1", output, *options,
                        JOBS / script, env={**os.environ, **more})  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    server = submit("server.sbatch")
    submit("mace.sbatch", "--array=1-2")
    submit("lammps_mpi.sbatch", "--ntasks-per-node=1")

    def logs(what: str) -> Callable[[], str]:
        return lambda: "\n".join(
            [what, *(f"{f.name}: {f.read_text()[-2000:]}" for f in sorted(case.glob("*.log")))]
        )

    until(lambda: len(made(case)) > steps // 3, logs("a third of the steps"))
    head.run("scancel", "--signal=USR1", "--batch", server)
    state = ("squeue", "-h", "-o", "%t", "-j", server)
    until(lambda: head.run(*state).stdout.strip() == "PD", logs("the queue"))
    say(f"stopped at step {made(case)[-1]} and queued again")
    until((case / "server.done").exists, logs("the end of the run"))
    until(lambda: not head.run("squeue", "-h").stdout, logs("the end of the workers"))
    runs = sorted(run.name for run in case.glob("runs/0*"))
    found = made(case)
    say(f"runs {', '.join(runs)}; steps {found[0]} to {found[-1]}")
    once = found == list(range(steps + 1))
    say("every step was made once" if once else f"steps: {found}")
    return 0 if once and len(runs) == 2 else 1


def main() -> int:
    """Make the cluster and use it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    steps: int = parser.parse_args().steps
    become_root()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left
    with tempfile.TemporaryDirectory(prefix="slurm-jobs-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # munge wants to know
        with network(NODES, folder) as nodes, slurm(nodes, folder) as head:
            say(head.run("srun", "-N3", "hostname").stdout.replace("\n", " ") + "are up")
            return play(head, prepared(folder, steps), steps)


if __name__ == "__main__":
    sys.exit(main())
