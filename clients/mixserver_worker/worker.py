"""A worker process: an engine on the main thread, a link on another, and the loop between them.

Depends on no particular engine.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import threading
import time
from typing import Final

from mixserver.core.errors import BadInput, MixserverError, WorkerFault
from mixserver.core.keys import KeyPair
from mixserver.wire.worker import VERSION, Evaluate, Hello, Result, Role
from mixserver_worker.engine import Engine, EngineResult
from mixserver_worker.link import ServerLink

log = logging.getLogger(__name__)

GRACE_S: Final = 2.0
"""How long an evaluation may go on after this worker must end; then the process exits."""
_STARTED: Final = round(time.time(), 3)


def run(
    engine: Engine,
    *,
    server: str,
    role: Role,
    name: str = "",
    wait_s: float = math.inf,
    stay_s: float = 0.0,
    keys: tuple[KeyPair, bytes] | None = None,
) -> None:
    """Serve one server with one engine until it says goodbye or a signal comes.

    Must be called on the main thread. Closes the engine.

    Args:
        engine: what evaluates.
        server: "tcp://HOST:PORT" or "ipc://PATH".
        role: whose jobs it evaluates.
        name: unique among the server's workers; by default host, engine and process id.
        wait_s: give up if no server has answered for so long.
        stay_s: after the server has ended, look for the next one for so long.
        keys: this worker's key pair and the server's public key, for a server with keys.

    Raises:
        ConfigError: the server rejected this worker, or `server` is malformed.
        PeerGone: no server answered for `wait_s`.
        WorkerFault: the engine failed; this was reported to the server.
    """
    host, pid = socket.gethostname(), os.getpid()
    card = engine.card
    hello = Hello(
        protocol=VERSION,
        role=role,
        name=name or f"{host}-{card.engine}-{pid}",
        model=card,
        host=host,
        pid=pid,
        started=_STARTED,
    )
    timers: list[threading.Timer] = []

    def exit_soon() -> None:
        """Do not wait for minutes of compiled code."""
        timers.append(threading.Timer(GRACE_S, _exit_now, (link,)))
        timers[-1].daemon = True
        timers[-1].start()

    link = ServerLink(
        server,
        hello,
        wait_s=wait_s,
        stay_s=stay_s,
        keys=keys,
        signals=True,
        on_end=exit_soon,
    )
    try:
        with link:
            log.info("%s (%s) is looking for %s", hello.name, card.name, server)
            work(engine, link)
    finally:
        engine.close()
        for timer in timers:
            timer.cancel()


def work(engine: Engine, link: ServerLink) -> None:
    """Evaluate jobs until the link ends.

    Raises:
        WorkerFault: the engine failed on a job; this was reported to the server.
        MixserverError: why the link ended, if it had to.
    """
    for job in link.jobs():
        started = time.perf_counter()
        try:
            if job.replica is not None and not engine.card.replicas:
                raise BadInput(f"the {engine.card.engine} engine takes one structure in a job")
            answer = engine.evaluate(job)
            result = _result(job, answer, time.perf_counter() - started)
        except BadInput as error:  # the job is at fault: report it, go on
            link.report_bad_input(job, str(error))
        except Exception as error:  # this worker is at fault: report it, end
            reason = str(error) if isinstance(error, MixserverError) else _with_type(error)
            link.report_fault(job, reason)
            reason = reason.removeprefix(f"job {job.job}: ")
            raise WorkerFault(f"job {job.job} ended this worker: {reason}") from error
        else:
            link.send_result(result)


def _result(job: Evaluate, answer: EngineResult, seconds: float) -> Result:
    return Result(
        job=job.job,
        energy=float(answer.energy),
        forces=answer.forces,
        virial=answer.virial,
        energies=answer.energies,
        values=answer.values,
        replica_energies=answer.replica_energies,
        virials=answer.virials,
        seconds=seconds,
    )


def _with_type(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _exit_now(link: ServerLink) -> None:
    if link.error is not None:
        sys.stderr.write(f"Error: {link.error}\n")
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(0 if link.error is None else 1)
