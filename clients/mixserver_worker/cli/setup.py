"""`mixserver-worker setup` and `describe`: what LAMMPS makes of an input and of a potential."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to write the state, as JSON.",
)
@click.option("--var", "variables", multiple=True, help="NAME=VALUE, as LAMMPS's -var.")
@click.option("--no-potential", is_flag=True, help="Leave the potential of INPUT out.")
def setup(source: Path, output: Path, variables: tuple[str, ...], no_potential: bool) -> None:
    """Have LAMMPS execute the set-up of INPUT, and write the state.

    Box, atoms, types, masses and velocities as they are before the first run, and every line of
    INPUT. No step is made. `mixserver new` calls this.
    """
    from mixserver.wire.lammps_input import to_json
    from mixserver_worker.engines.lammps.set_up import execute_set_up

    state = execute_set_up(source, potential=not no_potential, variables=variables)
    output.write_bytes(to_json(state))


@click.command()
@click.argument("commands", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--elements", help="Elements of atom types 1, 2, ..., e.g. Si,C.")
def describe(commands: Path, elements: str | None) -> None:
    """Print what the potential in COMMANDS can do, as JSON.

    COMMANDS is a file of LAMMPS commands. Elements, cut-off, and whether site energies can be
    weighted, as energy mixing needs. `mixserver new` calls this.
    """
    import msgspec

    from mixserver_worker.engines.lammps.engine import LammpsEngine

    engine = LammpsEngine(commands, elements=elements.split(",") if elements else None)
    click.echo(msgspec.json.encode(engine.card).decode())
