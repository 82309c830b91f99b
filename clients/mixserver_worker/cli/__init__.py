"""The `mixserver-worker` command: one file per engine, heavy imports inside."""

from __future__ import annotations

import click

from mixserver import __version__
from mixserver.core.command_group import CommandGroup
from mixserver_worker.cli.ase import ase
from mixserver_worker.cli.lammps import lammps
from mixserver_worker.cli.mace import mace
from mixserver_worker.cli.metatomic import metatomic
from mixserver_worker.cli.nequip import nequip
from mixserver_worker.cli.setup import describe, setup
from mixserver_worker.cli.toy import toy
from mixserver_worker.cli.untrained import untrained
from mixserver_worker.cli.validate import validate


@click.group(cls=CommandGroup)
@click.version_option(__version__, prog_name="mixserver-worker")
@click.option("--traceback", is_flag=True, help="On an error, show where in the code it arose.")
def main(traceback: bool) -> None:
    """Evaluate forces for a mixserver until the server ends.

    \b
    The server prints its address when it starts:
      mixserver-worker lammps si.in --server tcp://HOST:PORT
      mixserver-worker mace si.model --server tcp://HOST:PORT
    """


for command in (
    lammps,
    mace,
    nequip,
    metatomic,
    ase,
    toy,
    untrained,
    setup,
    describe,
    validate,
):
    main.add_command(command)

__all__ = ["main"]
