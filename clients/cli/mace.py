"""`mixserver-worker mace`: a MACE model on a GPU or CPU."""

from __future__ import annotations

from typing import Literal

import click

from clients.cli.common import Serve, worker_options


@click.command()
@click.argument("model")
@click.option(
    "--device", default="auto", show_default=True, help="auto (CUDA if any), cpu, cuda, cuda:N."
)
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32", "model"]),
    default="float64",
    show_default=True,
    help="Precision of the model's arithmetic; model: as in the file.",
)
@click.option("--head", help="Which head, needed if the model has several.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default OMP_NUM_THREADS.")
@worker_options("expensive")
def mace(
    serve: Serve,
    model: str,
    device: str,
    dtype: Literal["float64", "float32", "model"],
    head: str | None,
    threads: int | None,
) -> None:
    """Evaluate MODEL, a .model file or mace_mp:NAME or mace_off:NAME.

    Reading a .model file runs what is pickled in it: use files you trust.

    \b
    Example:
      mixserver-worker mace si.model --device cuda --server tcp://head-node:5555
    """
    from clients.engines.threads import prepare_torch

    prepare_torch(threads)  # before torch is imported

    from clients.engines.mace import MaceEngine

    serve(MaceEngine(model, device=device, dtype=dtype, head=head, threads=threads))
