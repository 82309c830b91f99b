"""`mixserver bench speedup`: a mixed case beside one model for all atoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mixserver.cli.bench.options import RunSuite, choices, engine_options, numbers, suite_options

_WAYS = ("mixed", "worker", "torch", "symmetrix", "calculator", "ipi-mace", "cheap")


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--atoms",
    default="1000,8000,27000",
    show_default=True,
    callback=numbers("atoms", "1000,8000"),
    help="Sizes to which the structure is repeated.",
)
@click.option(
    "--ways",
    default=",".join(_WAYS),
    show_default=True,
    callback=choices(_WAYS),
    help="mixed and what it is compared with: all atoms by the case's expensive worker, by MACE "
    "on torch or symmetrix kernels, MACECalculator, i-PI's own MACE driver, or the cheap model.",
)
@click.option("--core-radius", type=click.FloatRange(min=0.0), help="Å instead of the case's.")
@click.option("--blend-width", type=click.FloatRange(min=0.0), help="Å instead of the case's.")
@engine_options
@suite_options
def speedup(
    run: RunSuite,
    quick: bool,
    cores: int | None,
    atoms: tuple[int, ...],
    **options: Any,
) -> None:
    """A mixed CASE beside its expensive and its cheap model for all atoms.

    The structure is repeated; the region stays around the seeds of the first copy. All ways get
    the same positions over i-PI's protocol, and may use the same number of cores.

    \b
    Examples:
      mixserver bench speedup inputs/silicon_nve --atoms 8000 --core-radius 6 --blend-width 4
      mixserver bench speedup my_case --ways mixed,calculator,cheap --cores 1
    """
    from mixserver.analysis.bench.speedup import SpeedupSuite, measure_speedup

    suite = SpeedupSuite(atoms=atoms[:1] if quick else atoms, cores=cores, **options)
    run("speedup", lambda board: measure_speedup(suite, board))
