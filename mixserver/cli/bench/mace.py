"""`mixserver bench mace`: one MACE model in several engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mixserver.cli.bench.options import (
    RunSuite,
    choices,
    radii,
    size_options,
    suite_options,
    untrained_options,
)

_ENGINES = ("torch", "symmetrix", "compiled", "calculator", "symmetrix-calculator")


@click.command()
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A .model file; by default an untrained one is made.",
)
@click.option("--element", default="W", show_default=True, help="Of the crystals, such as W or Si.")
@click.option("--irreps", default="128x0e", show_default=True, help="Of an untrained model.")
@untrained_options
@size_options(
    sites="50,250,1000,3000", sites_help="Sizes of crystals whose sites all count, or none."
)
@click.option(
    "--region",
    "regions",
    default="6/4",
    show_default=True,
    callback=radii,
    help="Core radius and blend width of weighted regions, Å, or none.",
)
@click.option(
    "--engines",
    default="torch,symmetrix,calculator,symmetrix-calculator",
    show_default=True,
    callback=choices(_ENGINES),
    help="The worker on torch kernels, on symmetrix kernels, on those compiled for the model (not "
    "in the default: minutes for models with vectors), MACECalculator, symmetrix-xl's calculator.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@suite_options
def mace(
    run: RunSuite,
    quick: bool,
    model: Path | None,
    irreps: str,
    l_max: int,
    layers: int,
    r_max: float,
    sites: tuple[int, ...],
    regions: tuple[tuple[float, float], ...],
    **options: Any,
) -> None:
    """One MACE model in several engines, in crystals and in weighted regions.

    \b
    Examples:
      mixserver bench mace --sites 250 --dtype float32
      mixserver bench mace --model my.model --element Si --region 4/4,6/4,10/4
    """
    from mixserver.analysis.bench.mace_engines import MaceSuite, measure_mace
    from mixserver.analysis.bench.untrained import UntrainedMace

    if quick:
        irreps, l_max, r_max, sites, regions = "8x0e", 1, 3.5, (16,), ((1.0, 1.0),)
    layout = UntrainedMace(
        element=options["element"], irreps=irreps, l_max=l_max, layers=layers, r_max=r_max
    )
    suite = MaceSuite(model=model or layout, sites=sites, regions=regions, **options)
    run("mace", lambda board: measure_mace(suite, board))
