"""`mixserver-worker toy`: Lennard-Jones, or zeros."""

from __future__ import annotations

from typing import Literal

import click

from mixserver_worker.cli.options import Serve, worker_options


@click.command()
@click.option("--kind", type=click.Choice(["lj", "zero"]), default="lj", show_default=True)
@click.option("--epsilon", default=0.01, show_default=True, help="Depth of the well, eV.")
@click.option("--sigma", default=2.5, show_default=True, help="Å.")
@click.option("--cutoff", default=6.0, show_default=True, help="Å.")
@click.option(
    "--seconds", default=0.0, help="Minimum time of an evaluation, to imitate a slow model."
)
@worker_options("cheap")
def toy(
    serve: Serve,
    kind: Literal["lj", "zero"],
    epsilon: float,
    sigma: float,
    cutoff: float,
    seconds: float,
) -> None:
    """Evaluate Lennard-Jones, to try things out without any model.

    \b
    Example:
      mixserver-worker toy --sigma 3.4 --cutoff 7.0 --server tcp://127.0.0.1:5555 --role expensive
    """
    from mixserver_worker.engines.toy import ToyEngine

    serve(ToyEngine(kind, epsilon=epsilon, sigma=sigma, cutoff=cutoff, seconds=seconds))
