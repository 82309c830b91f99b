"""`mixserver-worker mace`: a MACE model on a GPU or CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from mixserver.core.cache_folder import VARIABLE
from mixserver_worker.cli.options import Serve, worker_options
from mixserver_worker.cli.torch_options import torch_options


@click.command()
@click.argument("model")
@torch_options
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32", "model"]),
    default="float64",
    show_default=True,
    help="Precision of the model's arithmetic; model: as in the file.",
)
@click.option("--head", help="Which head, needed if the model has several.")
@click.option(
    "--kernels",
    type=click.Choice(["torch", "symmetrix", "auto"]),
    default="torch",
    show_default=True,
    help="What evaluates the model: torch, symmetrix-xl (faster on CPUs, for models that it "
    "knows), or symmetrix-xl where it can and torch elsewhere.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=VARIABLE,
    help="Folder of models converted for symmetrix-xl; default ~/.cache/mixserver "
    "[env MIXSERVER_CACHE].",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="With symmetrix-xl: at the first start, compile code for clusters and systems whose sites "
    "all have the same weight. Takes up to some minutes.",
)
@worker_options("expensive")
def mace(
    serve: Serve,
    model: str,
    device: str,
    dtype: Literal["float64", "float32", "model"],
    head: str | None,
    threads: int | None,
    kernels: Literal["torch", "symmetrix", "auto"],
    cache: Path | None,
    compiled: bool,
) -> None:
    """Evaluate MODEL, a .model file or mace_mp:NAME or mace_off:NAME.

    Reading a .model file runs what is pickled in it: use files you trust.

    \b
    Example:
      mixserver-worker mace si.model --device cuda --server tcp://head-node:5555
    """
    import logging

    from mixserver_worker.engines.symmetrix.choice import mace_engine

    # what is converted, and why torch is used, happens before the worker serves
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    serve(
        mace_engine(
            model,
            kernels=kernels,
            device=device,
            dtype=dtype,
            head=head,
            threads=threads,
            cache=cache,
            compiled=compiled,
        )
    )
