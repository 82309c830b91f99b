"""Valid messages of every kind, from which inputs are made."""

from __future__ import annotations

import os
from typing import Final

import msgspec
import numpy as np

from mixserver.wire import status, worker
from mixserver.wire.replicas import combine
from mixserver.wire.worker import Evaluate, Hello, Message, ModelCard, Result

CELL: Final = np.diag([9.0, 8.0, 7.0])
_CARD: Final = ModelCard(
    engine="mace",
    name="mace-si",
    fingerprint="ab" * 32,
    species=(14, 74),
    cutoff=5.0,
    receptive_field=10.0,
    weights=True,
    energies=True,
)


def evaluates() -> list[Evaluate]:
    """A job with all that can be asked, one with little, and one of two structures."""
    full = Evaluate(
        job=7,
        stream=1,
        positions=np.arange(12.0).reshape(4, 3),
        numbers=np.full(4, 14, np.int32),
        cell=CELL,
        pbc=(True, True, False),
        weight=np.array([1.0, 0.5, 0.0, 0.0]),
        energies=True,
        wanted=np.array([0, 0, 1, 0], np.int32),
        criterion="coord/atom cutoff 2.9",
        parameters="a : 1",
        rid=3,
    )
    plain = Evaluate(
        job=8,
        stream=2,
        positions=np.zeros((1, 3)),
        numbers=np.ones(1, np.int32),
        cell=CELL,
        pbc=(True, True, True),
    )
    small = msgspec.structs.replace(plain, energies=True, weight=np.ones(1))
    return [full, plain, combine([small, small])]


def result(job: Evaluate) -> Result:
    """What a worker may answer."""
    n = len(job.positions)
    energies = np.ones(n)
    weights = np.ones(n) if job.weight is None else job.weight
    return Result(
        job=job.job,
        energy=float(weights @ energies),
        forces=np.zeros((n, 3)),
        virial=np.zeros((3, 3)),
        energies=energies if job.energies else None,
        values=np.zeros(n) if job.criterion else None,
        extras="{}",
        seconds=0.1,
        replica_energies=None if job.replica is None else np.bincount(job.replica, weights),
        virials=None if job.replica is None else np.zeros((job.replicas, 3, 3)),
    )


def hello() -> Hello:
    """A worker that introduces itself."""
    return Hello(
        protocol=worker.VERSION,
        role="expensive",
        name="gpu-3",
        model=_CARD,
        host="node",
        pid=os.getpid(),
        started=1.7e9,
        job=7,
    )


def small_messages() -> list[Message]:
    """All others."""
    return [
        worker.Welcome(heartbeat_s=1.0, patience_s=5.0),
        worker.Refused(reason="another model"),
        worker.Unknown(),
        worker.Heartbeat(job=3),
        worker.Failure(job=7, blame="input", message="two atoms coincide"),
        worker.Goodbye(reason="SIGTERM"),
    ]


STATUS_ANSWER: Final = status.Status(
    version=status.STATUS_VERSION,
    program="1.0",
    time=1.7e9,
    case="case/mix.toml",
    run="case/runs/0001",
    host="node",
    pid=7,
    stage="running",
    up_s=3.0,
    healthy=False,
    problems=("no healthy worker",),
    workers_at="tcp://127.0.0.1:5555",
    workers=(
        status.WorkerStatus(
            name="gpu-3",
            role="expensive",
            host="node",
            engine="mace",
            model="mace-si",
            dtype="float64",
            state="busy",
            busy_s=0.1,
            atoms=4,
            silent_s=0.2,
            jobs=3,
            mean_s=0.3,
        ),
    ),
    roles=(
        status.RoleStatus(
            role="expensive",
            state="ok",
            workers=1,
            healthy=1,
            queue=0,
            waiting_s=None,
            fingerprint="ab" * 32,
            last_loss="",
        ),
    ),
    counts={"joined": 1},
    evaluations=status.EvaluationStatus(total=3, per_s=1.0, last_age_s=0.1, core=3),
    ipi=status.IpiStatus(state="connected", addresses=("unix:silicon",), silent_s=0.1, step=2),
)
