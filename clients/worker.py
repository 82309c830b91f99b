"""The worker: an engine on the main thread, a link on another, and the loop between them.

Knows no engine in particular and no bytes.
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

from clients.engine import Answer, Engine
from clients.link import Link
from mixserver.errors import BadInput, MixserverError, WorkerFault
from mixserver.wire.worker import VERSION, Evaluate, Hello, Result, Role

log = logging.getLogger(__name__)

GRACE_S: Final = 2.0
"""How long an evaluation may go on after this worker was asked to end; then the process exits."""


def run(
    engine: Engine,
    *,
    server: str,
    role: Role,
    name: str = "",
    wait_s: float = math.inf,
) -> None:
    """Serve one server with one engine until it says goodbye or a signal comes.

    Must be called on the main thread. Closes the engine.

    Args:
        engine: what evaluates.
        server: "tcp://HOST:PORT" or "ipc://PATH".
        role: what the server is to ask it.
        name: unique among the server's workers; by default host, engine and process id.
        wait_s: give up if no server has answered for so long.

    Raises:
        ConfigError: the server turned this worker away, or `server` is no address.
        PeerGone: no server answered for `wait_s`.
        WorkerFault: the engine broke; the server has been told.
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
    )
    timers: list[threading.Timer] = []

    def exit_soon() -> None:
        """The engine may be in the middle of minutes of compiled code: do not wait for that."""
        timers.append(threading.Timer(GRACE_S, _exit_now, (link,)))
        timers[-1].daemon = True
        timers[-1].start()

    link = Link(server, hello, wait_s=wait_s, on_end=exit_soon)
    try:
        with link, link.heeding_signals():
            log.info("%s (%s) looks for %s", hello.name, card.name, server)
            work(engine, link)
    finally:
        engine.close()
        for timer in timers:
            timer.cancel()


def work(engine: Engine, link: Link) -> None:
    """Answer jobs until the link ends.

    Raises:
        WorkerFault: the engine broke on a job; the server has been told.
        MixserverError: why the link ended, if it had to.
    """
    for job in link.jobs():
        started = time.perf_counter()
        try:
            answer = engine.evaluate(job)
            result = _result(job, answer, time.perf_counter() - started)
        except BadInput as error:  # the job is at fault: tell, carry on
            link.refuse(job, str(error))
        except Exception as error:  # this worker is at fault: tell, and die
            words = str(error) if isinstance(error, MixserverError) else _named(error)
            link.fail(job, words)
            words = words.removeprefix(f"job {job.job}: ")
            raise WorkerFault(f"job {job.job} ended this worker: {words}") from error
        else:
            link.answer(result)


def _result(job: Evaluate, answer: Answer, seconds: float) -> Result:
    return Result(
        job=job.job,
        energy=float(answer.energy),
        forces=answer.forces,
        virial=answer.virial,
        energies=answer.energies,
        values=answer.values,
        seconds=seconds,
    )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _exit_now(link: Link) -> None:
    if link.error is not None:
        sys.stderr.write(f"Error: {link.error}\n")
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(0 if link.error is None else 1)
