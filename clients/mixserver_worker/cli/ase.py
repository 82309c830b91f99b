"""`mixserver-worker ase`: any ASE calculator."""

from __future__ import annotations

from typing import Any

import click

from mixserver.core.errors import ConfigError
from mixserver_worker.cli.options import Serve, worker_options


@click.command()
@click.argument("calculator")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A keyword argument of the calculator, VALUE as in TOML: --set path='\"x.pth\"'.",
)
@click.option("--cutoff", type=float, help="Å, its cutoff, if you know it.")
@click.option("--receptive-field", type=float, help="Å, the receptive field of a site energy.")
@click.option("--species", help="Elements it supports, if you want them checked, e.g. Si,C.")
@click.option("--no-virial", is_flag=True, help="Accept a calculator without stress: no pressure.")
@worker_options("expensive")
def ase(
    serve: Serve,
    calculator: str,
    settings: tuple[str, ...],
    cutoff: float | None,
    receptive_field: float | None,
    species: str | None,
    no_virial: bool,
) -> None:
    """Evaluate CALCULATOR, an ASE calculator by its import path.

    One in a folder of yours is found with PYTHONPATH.

    \b
    Example:
      mixserver-worker ase ase.calculators.emt.EMT --set asap_cutoff=true --cutoff 6.0
    """
    from mixserver_worker.engines.ase_calculator import AseEngine
    from mixserver_worker.engines.elements import numbers_of

    serve(
        AseEngine(
            calculator,
            keywords(settings),
            cutoff=cutoff,
            receptive_field=receptive_field,
            species=numbers_of("--species", species) if species else None,
            no_virial=no_virial,
        )
    )


def keywords(settings: tuple[str, ...]) -> dict[str, Any]:
    """Keyword arguments from KEY=VALUE words, with values as in TOML.

    Raises:
        ConfigError: a word is not KEY=VALUE.
    """
    import tomllib

    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, e.g. --set cutoff=5.0")
        if key in found:
            raise ConfigError(f"--set {key} is given twice")
        try:
            parsed = tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f"--set {setting!r}: {value!r} is not a TOML value ({error}). Text needs quotes of "
                f"its own: --set '{key}=\"{value}\"'"
            ) from error
        if list(parsed) != [key]:
            raise ConfigError(f"--set {setting!r}: expected one TOML value, got several lines")
        found |= parsed
    return found
