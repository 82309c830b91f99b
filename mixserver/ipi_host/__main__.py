"""The program: i-PI itself, not hurt by being told twice to end, with our thermostat if asked for.

Takes the input and the options of the `i-pi` command that `mixserver run` uses, and ends as it
does. What goes wrong in the thermostat ends the run with an error in words, status 1 and a RESTART.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ipi.engine.forcefields import FFSocket, ForceField
from ipi.engine.simulation import Simulation
from ipi.utils.softexit import softexit

from mixserver.errors import ConfigError, MixserverError
from mixserver.ipi_host.heeding import heeded
from mixserver.ipi_host.temperatures import TemperatureOutput
from mixserver.ipi_host.thermostat import install

_ONE_CALL_S: Final = 2.0
"""Signals that come within this mean one and the same call to end."""


def main(arguments: Sequence[str]) -> None:
    """Run one simulation to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m mixserver.ipi_host",
        description="i-PI as mixserver runs it.",
    )
    parser.add_argument("input", type=Path, help="i-PI's input, or a RESTART")
    parser.add_argument("-S", "--sockets_prefix", help="prefix of unix sockets")
    parser.add_argument(
        "-V", "--verbosity", choices=["quiet", "low", "medium", "high", "debug"], help="of the log"
    )
    parser.add_argument(
        "--cheap-thermostat", action="store_true", help="let the Langevin thermostat leave the core"
    )
    options = parser.parse_args(arguments)
    softexit._kill_handler = heeded(_once(softexit._kill_handler))
    try:
        simulation = _load(
            options.input,
            options.sockets_prefix,
            options.verbosity,
            thermostat=options.cheap_thermostat,
        )
    except ConfigError as error:
        sys.exit(f"Error: {error}")
    softexit.hard_exit = True  # as the i-pi command does: end once everything is written
    try:
        simulation.run()
    except MixserverError as error:
        softexit.cleanup(status="restartable", message=f" @THERMOSTAT: {error}")
        sys.stderr.write(f"Error: {error}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    softexit.trigger(status=simulation.exit_status, message=simulation.exit_message)


def _once(handler: Callable[[int, Any], None]) -> Callable[[int, Any], None]:
    """The same signal handler, deaf for a moment after it was called.

    i-PI takes a second signal as the wish to end without a RESTART. When a parent with several
    threads is killed, the kernel sends the signal of its death once for each of them.
    """
    last = -_ONE_CALL_S

    def heed(number: int, frame: Any) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= _ONE_CALL_S:
            handler(number, frame)

    return heed


def _load(
    file: Path, sockets_prefix: str | None, verbosity: str | None, *, thermostat: bool
) -> Simulation:
    try:
        text = file.open(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"i-PI's input {file} cannot be read: {error.strerror}") from error
    with text:
        simulation = Simulation.load_from_xml(
            text,
            request_banner=True,
            custom_verbosity=verbosity,
            sockets_prefix=sockets_prefix,
            post_init_hook=partial(_prepare, thermostat=thermostat),
        )
    if thermostat:
        simulation.outputs.append(TemperatureOutput(simulation))
    return simulation


def _prepare(simulation: Simulation, *, thermostat: bool) -> None:
    """What is changed in a simulation before its parts know one another and sockets are opened."""
    for forcefield in simulation.fflist.values():
        for inside in _inside(forcefield):
            inside.socket.sockets_prefix = simulation.sockets_prefix
    if thermostat:
        install(simulation)


def _inside(forcefield: ForceField) -> Iterator[FFSocket]:
    """Sockets inside <ffrotations> or <ffcommittee>, where i-PI forgets the prefix."""
    if isinstance(forcefield, FFSocket):
        yield forcefield
    for inner in (getattr(forcefield, "ff", None), *getattr(forcefield, "fflist", ())):
        if isinstance(inner, ForceField):
            yield from _inside(inner)


if __name__ == "__main__":
    main(sys.argv[1:])
