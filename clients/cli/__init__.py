"""The `mixserver-worker` command: one file per engine, heavy imports inside."""

from __future__ import annotations

import click

from clients.cli.ase import ase
from clients.cli.common import Group
from clients.cli.lammps import lammps
from clients.cli.mace import mace
from clients.cli.toy import toy
from mixserver import __version__


@click.group(cls=Group)
@click.version_option(__version__, prog_name="mixserver-worker")
@click.option("--traceback", is_flag=True, help="On an error, show where in the code it arose.")
def main(traceback: bool) -> None:
    """Evaluate forces for a mixserver until it says goodbye.

    \b
    The server prints its address when it starts:
      mixserver-worker lammps si.in --server tcp://HOST:PORT
      mixserver-worker mace si.model --server tcp://HOST:PORT
    """


for command in (lammps, mace, ase, toy):
    main.add_command(command)

__all__ = ["main"]
