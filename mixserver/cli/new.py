"""`mixserver new`: a case from a structure or a LAMMPS input."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--structure",
    type=click.Path(path_type=Path),
    help="POSCAR, extxyz, cif, xyz or PDB with a cell, ... or a LAMMPS data file.",
)
@click.option(
    "--from-lammps",
    "lammps_input",
    type=click.Path(path_type=Path),
    metavar="INPUT",
    help="A LAMMPS input: LAMMPS sets it up, and its fixes become i-PI's.",
)
@click.option(
    "--cheap",
    metavar="TEXT",
    help="LAMMPS lines ('pair_style ...; pair_coeff ...'), a file with them, an input, or a "
    "potential that comes with LAMMPS. Default with --from-lammps: that of INPUT.",
)
@click.option(
    "--expensive",
    required=True,
    metavar="MODEL",
    help="A MACE file, mace_mp:NAME, or a worker's command: 'nequip my.pth --device cuda'.",
)
@click.option("--head", help="Which head of a MACE that has several.")
@click.option(
    "--seeds",
    default="auto",
    show_default=True,
    metavar="TEXT",
    help="'atoms 0 5 7-9', 'ids 1 6' (LAMMPS's), 'species He', 'sphere X Y Z RADIUS' (Å), "
    "'coordination', 'criterion COMPUTE low A high B'; auto: an impurity, or atoms with another "
    "coordination than most.",
)
@click.option("--core", type=float, default=4.0, show_default=True, help="Core radius, Å.")
@click.option("--blend", type=float, default=4.0, show_default=True, help="Blend width, Å.")
@click.option(
    "--ensemble",
    type=click.Choice(["nvt", "nve", "npt", "minimize"]),
    help="minimize: geometry optimisation.  [default: nvt, or that of INPUT]",
)
@click.option("--timestep", metavar="TIME", help="With its unit.  [default: 1fs]")
@click.option("--temperature", metavar="TEMPERATURE", help="[default: 300K]")
@click.option("--pressure", metavar="PRESSURE", help="With its unit.  [default: 0GPa]")
@click.option(
    "--barostat",
    type=click.Choice(["isotropic", "orthogonal", "flexible"]),
    help="What may change: the volume, the three edges, the whole cell.  [default: isotropic]",
)
@click.option("--length", metavar="LENGTH", help="2ps or 2000steps.  [default: 2000steps]")
@click.option(
    "--mixing", type=click.Choice(["auto", "energy", "force"]), default="auto", show_default=True
)
@click.option("--units", metavar="STYLE", help="Of a LAMMPS data file: metal or real.")
@click.option("--atom-style", metavar="STYLE", help="Of a LAMMPS data file that does not say.")
@click.option("--elements", metavar="LIST", help="Of LAMMPS's atom types 1, 2, ..., e.g. Si,C.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="As LAMMPS's -var.")
@click.option(
    "--files",
    type=click.Choice(["copy", "link"]),
    default="copy",
    show_default=True,
    help="Copy potential and model into FOLDER, or make links to them.",
)
def new(folder: Path, elements: str | None, **options: Any) -> None:
    """Make a case in FOLDER from a structure, or from a LAMMPS input.

    Writes init.extxyz, input.xml, mix.toml, cheap.in and a README, says what was assumed and, of a
    LAMMPS input, what became of each line, and does the quick checks.

    \b
    Examples:
      mixserver new sia --structure POSCAR --cheap W_2940_2017_2.snap --expensive w.model
      mixserver new vac --from-lammps in.lmp --expensive si.model --seeds coordination
      mixserver new npt --structure si.data --units metal --cheap Si.sw \\
          --expensive mace_mp:small --ensemble npt --temperature 600K --length 20ps
    """
    import asyncio

    from mixserver.analysis.checks import check_case
    from mixserver.cli.check import counted, in_lines, width
    from mixserver.cli.logs import configure
    from mixserver.config import load_case
    from mixserver.new_case.build import make_case
    from mixserver.new_case.decisions import Wishes
    from mixserver.new_case.texts import outcome_lines

    configure(None)
    made_by = shlex.join(["mixserver", *sys.argv[1:]])
    named = tuple(elements.split(",")) if elements else None
    made = make_case(Wishes(folder=folder, elements=named, made_by=made_by, **options))
    for fact in made.facts:
        click.echo(fact)
    if made.outcomes:
        click.echo("\nWhat became of the input (= as there, ~ something else, - nothing):")
        click.echo("\n".join(outcome_lines(made.outcomes)))
    findings = asyncio.run(check_case(load_case(folder), quick=True))
    click.echo()
    for finding in findings:
        if finding.level != "ok":
            click.echo(in_lines(finding, width()))
    click.echo(f"Quick checks: {counted(findings)}.")
    click.echo(f"Wrote {folder}. Next: mixserver check {folder}; mixserver run {folder}")
    if any(finding.level == "error" for finding in findings):
        raise SystemExit(1)
