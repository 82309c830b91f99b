"""`mixserver-worker validate`: whether a worker's command is one, without starting it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from mixserver.core.errors import MissingPackage, MixserverError
from mixserver.wire.worker_validation import WorkerValidation, to_json


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- ENGINE...")
def validate(words: tuple[str, ...]) -> None:
    """Print as JSON whether ENGINE with its arguments can be a worker.

    Looks at the engine's name, the options and their values; of a LAMMPS potential also at the
    files and elements that it names. Nothing is evaluated and no other model is loaded. `mixserver
    check --quick` calls this.

    \b
    Example:
      mixserver-worker validate -- lammps si.in --skin 2.0
    """
    group = click.get_current_context().find_root().command
    commands = group.commands if isinstance(group, click.Group) else {}
    engines = {
        name: command
        for name, command in commands.items()
        if any("--server" in one.opts for one in command.params)
    }
    click.echo(to_json(_validate(engines, words)).decode())


def _validate(engines: Mapping[str, click.Command], words: Sequence[str]) -> WorkerValidation:
    name, *rest = words
    if name not in engines:
        near = difflib.get_close_matches(name, engines, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(engines)}"
        return WorkerValidation(f"{name!r} is no engine; {hint}")
    try:
        with engines[name].make_context(name, [*rest, "--server", "ipc://none"]) as context:
            options = dict(context.params)
    except click.ClickException as error:
        return WorkerValidation(error.format_message())
    except click.exceptions.Exit:
        return WorkerValidation("an option that prints something and ends, such as --help")
    # switches such as -k on start accelerators, which is for the worker itself to do
    if name != "lammps" or options["lmp_args"]:
        return WorkerValidation()
    return _of_lammps(options)


def _of_lammps(options: Mapping[str, Any]) -> WorkerValidation:
    """Have LAMMPS read the potential."""
    from mixserver_worker.engines.lammps.engine import LammpsEngine

    elements = options["elements"]
    try:
        engine = LammpsEngine(
            options["commands"],
            elements=elements.split(",") if elements else None,
            receptive_field=options["receptive_field"],
        )
    except MissingPackage as error:
        return WorkerValidation(str(error), not_installed=True)
    except MixserverError as error:
        return WorkerValidation(str(error))
    return WorkerValidation(model=engine.card)
