"""`mixserver-worker untrained`: writes an untrained MACE model, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--elements", required=True, help="Elements it knows, e.g. W,He.")
@click.option("--irreps", default="128x0e", show_default=True, help="Of its node features.")
@click.option("--l-max", type=click.IntRange(0, 6), default=3, show_default=True)
@click.option("--layers", type=click.IntRange(1, 8), default=2, show_default=True)
@click.option(
    "--r-max", type=click.FloatRange(1.0, 20.0), default=6.0, show_default=True, help="Å."
)
@click.option("--correlation", type=click.IntRange(1, 4), default=3, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of its random weights.")
def untrained(
    output: Path,
    elements: str,
    irreps: str,
    l_max: int,
    layers: int,
    r_max: float,
    correlation: int,
    seed: int,
) -> None:
    """Write an untrained MACE model to OUTPUT, for benchmarks.

    Its energies and forces mean nothing.

    \b
    Example:
      mixserver-worker untrained w.model --elements W --irreps "128x0e + 128x1o"
    """
    from mixserver_worker.engines.elements import numbers_of
    from mixserver_worker.engines.mace.untrained import build_untrained, write_untrained

    module = build_untrained(
        numbers_of("--elements", elements),
        irreps=irreps,
        l_max=l_max,
        layers=layers,
        r_max=r_max,
        correlation=correlation,
        seed=seed,
    )
    write_untrained(module, output)
