"""`mixserver bench`: how fast one way of computing forces is beside another one."""

from __future__ import annotations

import click

from mixserver.cli.bench.gpu import gpu
from mixserver.cli.bench.lammps import lammps
from mixserver.cli.bench.mace import mace
from mixserver.cli.bench.overhead import overhead
from mixserver.cli.bench.scaling import scaling
from mixserver.cli.bench.speedup import speedup


@click.group()
def bench() -> None:
    """Measure how fast engines and runs are on this machine.

    Rows are ratios of times that were taken in turn, in one run.

    Every row is preceded by the command that repeats it.
    """


for command in (overhead, mace, lammps, speedup, scaling, gpu):
    bench.add_command(command)
