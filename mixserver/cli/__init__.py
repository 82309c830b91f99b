"""The `mixserver` command: one file per subcommand, heavy imports inside."""

from __future__ import annotations

import click

from mixserver import __version__
from mixserver.cli.align import align
from mixserver.cli.bench import bench
from mixserver.cli.check import check
from mixserver.cli.cotrain import cotrain
from mixserver.cli.distill import distill
from mixserver.cli.drift import drift
from mixserver.cli.keys import keys
from mixserver.cli.new import new
from mixserver.cli.plot import plot
from mixserver.cli.region import region
from mixserver.cli.reorder import reorder
from mixserver.cli.report import report
from mixserver.cli.run import run
from mixserver.cli.serve import serve
from mixserver.cli.status import status
from mixserver.cli.watch import watch
from mixserver.core.command_group import CommandGroup


@click.group(cls=CommandGroup)
@click.version_option(__version__, prog_name="mixserver")
@click.option("--traceback", is_flag=True, help="On an error, show where in the code it arose.")
def main(traceback: bool) -> None:
    """Mix a cheap and an expensive potential behind i-PI's socket.

    \b
    A case is a folder with a mix.toml (see inputs/). Start here:
      mixserver run inputs/minimal
      mixserver new --help
    """


_COMMANDS = (
    new,
    run,
    serve,
    status,
    watch,
    keys,
    check,
    align,
    region,
    reorder,
    plot,
    drift,
    report,
    distill,
    cotrain,
    bench,
)
for command in _COMMANDS:
    main.add_command(command)

__all__ = ["main"]
