"""`--gpu 0,1`: one worker process per device, restarted when it fails. Imports nothing heavy."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mixserver.core.errors import ConfigError

log = logging.getLogger(__name__)

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
NAME: Final = "MIXSERVER_WORKER_NAME"
"""Tells a worker process that it is one of several, and its name."""
_STABLE_S: Final = 60.0
"""A worker that ran so long counts as one that works."""
_ATTEMPTS: Final = 5
"""Failures in a row, each sooner than that, after which a device is given up."""
_LONGEST_WAIT_S: Final = 60.0
_POLL_S: Final = 0.1
_PROGRAM: Final = "from mixserver_worker.cli import main; main(prog_name='mixserver-worker')"


def parse_devices(text: str, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """The devices of `--gpu`, each with what CUDA_VISIBLE_DEVICES must be for it.

    Numbers count the devices that are visible to this process, as `cuda:N` does: in a batch job
    those of the job. UUIDs (GPU-..., MIG-...) are taken as they are.

    Raises:
        ConfigError: no device, one twice, or a number beyond those visible.
    """
    devices = [word.strip() for word in text.split(",")]
    if not all(devices) or len({*devices}) < len(devices):
        raise ConfigError(f"--gpu {text!r}: expected different devices, such as --gpu 0,1")
    visible = [word.strip() for word in environment.get(VISIBLE, "").split(",") if word.strip()]
    found: list[tuple[str, str]] = []
    for device in devices:
        if not device.isdecimal():
            if not device.startswith(("GPU-", "MIG-")):
                raise ConfigError(f"--gpu {text!r}: {device!r} is neither a number nor a UUID")
            found.append((device, device))
        elif visible and int(device) >= len(visible):
            raise ConfigError(
                f"--gpu {device}: only {len(visible)} devices are visible here "
                f"({VISIBLE}={environment[VISIBLE]}), counted from 0"
            )
        else:
            found.append((device, visible[int(device)] if visible else device))
    return found


@dataclass(slots=True)
class _Worker:
    """The process of one device, across its restarts."""

    name: str
    visible: str
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    failures: int = 0
    """In a row."""
    next_start: float = 0.0
    over: bool = False

    def start(self, arguments: Sequence[str]) -> None:
        self.began = time.monotonic()
        guard = [sys.executable, "-m", "mixserver.core.die_with_parent"]
        self.process = subprocess.Popen(
            [*guard, sys.executable, "-c", _PROGRAM, *arguments],
            env={
                **os.environ,
                VISIBLE: self.visible,
                NAME: self.name,
                "MIXSERVER_PARENT": str(os.getpid()),
            },
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        )

    def look(self, *, stopping: bool) -> None:
        """Notice its end, and decide when it starts again."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        now = time.monotonic()
        self.process = None
        if code == 0 or stopping:
            self.over = True
            return
        self.failures = 1 if now - self.began > _STABLE_S else self.failures + 1
        how = f"ended with status {code}" if code > 0 else f"was ended by signal {-code}"
        if self.failures >= _ATTEMPTS:
            self.over = True
            log.error("%s %s, %d times in a row: given up", self.name, how, self.failures)
            return
        wait_s = min(2.0 ** (self.failures - 1), _LONGEST_WAIT_S)
        self.next_start = now + wait_s
        log.warning("%s %s: starting it again in %g s", self.name, how, wait_s)


def run_on_devices(devices: Sequence[tuple[str, str]], name: str, arguments: Sequence[str]) -> int:
    """Run one worker per device until all have ended; signals are passed on to them.

    A worker that fails is started again, later and later. One that ends in order (the server said
    goodbye, a signal) is not, and neither is one that fails five times in a row within a minute
    of its start.

    Args:
        devices: each with its CUDA_VISIBLE_DEVICES.
        name: the workers are called NAME-DEVICE.
        arguments: of `mixserver-worker`, as this process got them.

    Returns:
        The exit status: 0, or 1 if a worker was given up.
    """
    workers = [_Worker(f"{name}-{device}", visible) for device, visible in devices]
    stopping = False

    def pass_on(number: int, _: object) -> None:
        nonlocal stopping
        stopping = True
        for worker in workers:
            if worker.process is not None:
                worker.process.send_signal(number)

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, pass_on) for number in signals}
    try:
        while not all(worker.over for worker in workers):
            for worker in workers:
                worker.look(stopping=stopping)
                if worker.over or worker.process is not None:
                    continue
                if stopping:
                    worker.over = True
                elif time.monotonic() >= worker.next_start:
                    worker.start(arguments)
            time.sleep(_POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return int(any(worker.failures >= _ATTEMPTS for worker in workers))
