"""The program: i-PI itself, with its thermostat and one more output replaced before it begins.

Takes the input and the options of the `i-pi` command that `mixserver run` uses, and ends as it
does. What goes wrong in the thermostat ends the run with an error in words, status 1 and a RESTART.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ipi.engine.simulation import Simulation
from ipi.utils.softexit import softexit

from mixserver.errors import ConfigError, MixserverError
from mixserver.ipi_host.temperatures import TemperatureOutput
from mixserver.ipi_host.thermostat import install


def main(arguments: Sequence[str]) -> None:
    """Run one simulation to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m mixserver.ipi_host",
        description="i-PI with a Langevin thermostat that leaves the core alone.",
    )
    parser.add_argument("input", type=Path, help="i-PI's input, or a RESTART")
    parser.add_argument("-S", "--sockets_prefix", help="prefix of unix sockets")
    parser.add_argument(
        "-V", "--verbosity", choices=["quiet", "low", "medium", "high", "debug"], help="of the log"
    )
    options = parser.parse_args(arguments)
    try:
        simulation = _load(options.input, options.sockets_prefix, options.verbosity)
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


def _load(file: Path, sockets_prefix: str | None, verbosity: str | None) -> Simulation:
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
            post_init_hook=install,
        )
    simulation.outputs.append(TemperatureOutput(simulation))
    return simulation


if __name__ == "__main__":
    main(sys.argv[1:])
