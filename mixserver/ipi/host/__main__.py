"""The i-PI program: tolerates repeated signals and killed drivers; our thermostat is an option.

Takes the input and those options of the `i-pi` command that `mixserver run` uses, and ends as it
does. An error in the thermostat, or an output that cannot be written, ends the run with a message,
status 1 and a RESTART.
"""

from __future__ import annotations

import argparse
import contextlib
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

from mixserver.core.errors import ConfigError, MixserverError
from mixserver.ipi.host.emergency import write_restart
from mixserver.ipi.host.projectile import install_shot
from mixserver.ipi.host.signals import delivered_to_main_thread
from mixserver.ipi.host.sockets import take_resets_for_hang_ups
from mixserver.ipi.host.temperatures import TemperatureOutput
from mixserver.ipi.host.thermostat import install_thermostat

_ONE_CALL_S: Final = 2.0
"""Signals within this time count as one."""


def main(arguments: Sequence[str]) -> None:
    """Run one simulation to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m mixserver.ipi.host",
        description="i-PI as mixserver runs it.",
    )
    parser.add_argument("input", type=Path, help="i-PI's input, or a RESTART")
    parser.add_argument("-S", "--sockets_prefix", help="prefix of unix sockets")
    parser.add_argument(
        "-V", "--verbosity", choices=["quiet", "low", "medium", "high", "debug"], help="of the log"
    )
    parser.add_argument(
        "--cheap-thermostat",
        action="store_true",
        help="let the Langevin thermostat act outside the core only",
    )
    parser.add_argument(
        "--shot", type=Path, help="settings of a shot: the time step follows the fastest atom"
    )
    parser.add_argument("--error-file", type=Path, help="gets the reason of an error, too")
    options = parser.parse_args(arguments)
    take_resets_for_hang_ups()
    softexit._kill_handler = delivered_to_main_thread(_once(softexit._kill_handler))
    try:
        simulation = _load(
            options.input,
            options.sockets_prefix,
            options.verbosity,
            thermostat=options.cheap_thermostat,
        )
        if options.shot is not None:
            install_shot(simulation, options.shot.absolute())
    except ConfigError as error:
        sys.exit(f"Error: {error}")
    softexit.hard_exit = True  # as the i-pi command does: end once everything is written
    try:
        simulation.run()
    except (MixserverError, OSError) as error:
        saved = write_restart(simulation, str(error))
        reason = f"{_explained(error)}{saved}"
        if options.error_file is not None:  # the log is on the disk of the run
            with contextlib.suppress(OSError):
                options.error_file.write_text(reason, encoding="utf-8")
        with contextlib.suppress(OSError):
            sys.stderr.write(f"Error: {reason}\n")
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(1)
    softexit.trigger(status=simulation.exit_status, message=simulation.exit_message)


def _explained(error: MixserverError | OSError) -> str:
    if isinstance(error, MixserverError):
        return str(error)
    file = f" {error.filename}" if error.filename else ""
    return (
        f"i-PI cannot write its output{file}: {error.strerror or error}. Remove the cause (a full "
        "disk, a folder that is read-only or gone, a limit of ulimit -f), then continue the run. "
    )


def _once(handler: Callable[[int, Any], None]) -> Callable[[int, Any], None]:
    """The same signal handler, ignoring repeated signals for a moment.

    On a second signal i-PI ends without a RESTART. When a parent with several
    threads is killed, the kernel sends the signal of its death once for each of them.
    """
    last = -_ONE_CALL_S

    def handle(number: int, frame: Any) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before >= _ONE_CALL_S:
            handler(number, frame)

    return handle


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
    """Change a simulation before its parts are bound and its sockets opened."""
    for forcefield in simulation.fflist.values():
        for inside in _inside(forcefield):
            inside.socket.sockets_prefix = simulation.sockets_prefix
    if thermostat:
        install_thermostat(simulation)


def _inside(forcefield: ForceField) -> Iterator[FFSocket]:
    """Sockets inside <ffrotations> or <ffcommittee>, where i-PI forgets the prefix."""
    if isinstance(forcefield, FFSocket):
        yield forcefield
    for inner in (getattr(forcefield, "ff", None), *getattr(forcefield, "fflist", ())):
        if isinstance(inner, ForceField):
            yield from _inside(inner)


if __name__ == "__main__":
    main(sys.argv[1:])
