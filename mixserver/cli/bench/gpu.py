"""`mixserver bench gpu`: everything that a GPU changes, in one report to send."""

from __future__ import annotations

from pathlib import Path

import click

from mixserver.cli.bench.options import RunSuite, numbers, size_options, suite_options


@click.command()
@click.option(
    "--case",
    "cases",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A case with MACE and LAMMPS whose mixed run is compared; may be repeated.",
)
@click.option(
    "--potential",
    "potentials",
    multiple=True,
    nargs=2,
    type=(click.Path(exists=True, dir_okay=False, path_type=Path), str),
    metavar="FILE ELEMENTS",
    help="LAMMPS commands and the elements of their atom types; may be repeated.",
)
@size_options(sites="250,1000,3000,10000", sites_help="Sizes of crystals for MACE.")
@click.option(
    "--atoms",
    default="8000,27000,64000",
    show_default=True,
    callback=numbers("atoms", "8000,27000"),
    help="Sizes for LAMMPS and for mixed runs.",
)
@click.option("--no-kokkos", is_flag=True, help="Leave the cheap side on the CPU.")
@suite_options
def gpu(
    run: RunSuite,
    quick: bool,
    cases: tuple[Path, ...],
    potentials: tuple[tuple[Path, str], ...],
    sites: tuple[int, ...],
    atoms: tuple[int, ...],
    dtypes: tuple[str, ...],
    no_kokkos: bool,
) -> None:
    """Everything that a GPU changes, as one report to send.

    Prints the machine, the versions and the rows; --output DIR keeps them as files. Without CUDA it
    ends and lists what is missing. Without Kokkos in LAMMPS the cheap side stays on the CPU.

    \b
    Example, in a copy of the project:
      mixserver bench gpu --case inputs/silicon_nve --case inputs/w_he \\
          --potential inputs/silicon_distill/potential/si.in Si --output gpu-report
    """
    import asyncio

    import msgspec

    from mixserver.analysis.bench.gpu import GpuSuite, find_gpu_support, measure_gpu

    suite = GpuSuite(
        cases=cases,
        potentials=potentials,
        sites=sites,
        atoms=atoms,
        dtypes=dtypes,  # type: ignore[arg-type]
        kokkos=not no_kokkos,
    )
    if quick:
        suite = msgspec.structs.replace(suite, sites=sites[:1], atoms=atoms[:1], irreps=("16x0e",))
    support = asyncio.run(find_gpu_support())
    run("gpu", lambda board: measure_gpu(suite, support, board))
