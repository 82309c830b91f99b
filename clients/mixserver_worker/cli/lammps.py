"""`mixserver-worker lammps`: any pair style, on one rank or several."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click

from mixserver.core.errors import MixserverError
from mixserver.core.shared_memory import remove_stale_segments
from mixserver_worker.cli.options import Serve, worker_options


@click.command()
@click.argument("commands", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--lmp-args",
    default="",
    help='Switches for LAMMPS in one word, e.g. "-k on g 1 -sf kk" on a Kokkos build.',
)
@click.option("--skin", default=1.0, show_default=True, help="Neighbour list skin, Å.")
@click.option(
    "--elements", help="Elements of atom types 1, 2, ..., unless COMMANDS states them, e.g. Si,C."
)
@click.option(
    "--receptive-field",
    type=float,
    help="Å, the receptive field of a site energy, if you know it better than the engine.",
)
@click.option(
    "--kernels",
    type=click.Choice(["auto", "compiled", "lammps"]),
    default="auto",
    show_default=True,
    help="What evaluates SNAP: code compiled with numba, several times faster on a CPU, or LAMMPS.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of each rank for compiled code; default OMP_NUM_THREADS, or 1.",
)
@worker_options("cheap")
def lammps(
    serve: Serve,
    commands: Path,
    lmp_args: str,
    skin: float,
    elements: str | None,
    receptive_field: float | None,
    kernels: Literal["auto", "compiled", "lammps"],
    threads: int | None,
) -> None:
    """Evaluate the potential in COMMANDS, a file of LAMMPS commands.

    \b
    Examples:
      mixserver-worker lammps si.in --server tcp://head-node:5555
      mpiexec -n 4 mixserver-worker lammps si.in --server tcp://head-node:5555
    """
    import shlex

    from mixserver_worker.engines.lammps.engine import LammpsEngine
    from mixserver_worker.engines.lammps.mpi_start import world
    from mixserver_worker.engines.threads import threads_of_environment

    comm = world()
    leads = comm is None or comm.Get_rank() == 0
    if not leads:  # rank 0 handles signals and ends the others
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    else:
        remove_stale_segments()
    with _abort_all_on_error(comm):
        engine = LammpsEngine(
            commands,
            lmp_args=shlex.split(lmp_args),
            skin=skin,
            elements=elements.split(",") if elements else None,
            receptive_field=receptive_field,
            comm=comm,
            kernels=kernels,
            threads=threads or threads_of_environment(),
        )
        if leads:
            serve(engine)
        else:
            engine.follow()


@contextlib.contextmanager
def _abort_all_on_error(comm: Any) -> Iterator[None]:
    """An error of one rank ends all; rank 0 reports one that all ranks have."""
    try:
        yield
    except MixserverError as error:
        if comm is None:
            raise
        if comm.Get_rank() == 0:
            sys.stderr.write(f"Error: {error}\n")
            sys.stderr.flush()
        comm.Abort(1)
