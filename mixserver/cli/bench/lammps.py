"""`mixserver bench lammps`: the LAMMPS engine beside LAMMPS itself."""

from __future__ import annotations

from pathlib import Path

import click

from mixserver.cli.bench.options import RunSuite, choices, numbers, suite_options

_KERNELS = ("compiled", "lammps")


@click.command()
@click.argument("commands", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--elements", default="Si", show_default=True, help="Of the atom types; the crystal's first."
)
@click.option(
    "--atoms",
    default="1000,8000",
    show_default=True,
    callback=numbers("atoms", "1000,8000"),
    help="Sizes of crystals.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Of LAMMPS's own run, as one time.",
)
@click.option(
    "--kernels",
    default=",".join(_KERNELS),
    show_default=True,
    callback=choices(_KERNELS),
    help="Of the engine, each beside LAMMPS: compiled code for SNAP, or LAMMPS's own.",
)
@click.option("--lmp-args", default="", help='Switches for LAMMPS in one word, "-k on g 1 -sf kk".')
@click.option("--ranks", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@suite_options
def lammps(
    run: RunSuite,
    quick: bool,
    commands: Path,
    elements: str,
    atoms: tuple[int, ...],
    steps: int,
    kernels: tuple[str, ...],
    lmp_args: str,
    ranks: int,
    threads: int,
) -> None:
    """The LAMMPS engine beside LAMMPS's own run and fix ipi.

    COMMANDS is a file of LAMMPS commands with the potential, as for mixserver-worker lammps.

    \b
    Example:
      mixserver bench lammps si.in --elements Si --atoms 8000
    """
    import shlex

    from mixserver.analysis.bench.lammps_steps import LammpsSuite, measure_lammps

    suite = LammpsSuite(
        commands=commands,
        elements=tuple(one.strip() for one in elements.split(",")),
        atoms=(64,) if quick else atoms,
        steps=5 if quick else steps,
        kernels=kernels,
        arguments=tuple(shlex.split(lmp_args)),
        ranks=ranks,
        threads=threads,
    )
    run("lammps", lambda board: measure_lammps(suite, board))
