"""`mixserver-worker metatomic`: a metatomic model on a GPU or CPU."""

from __future__ import annotations

import click

from mixserver_worker.cli.options import Serve, worker_options
from mixserver_worker.cli.torch_options import torch_options


@click.command()
@click.argument("model")
@torch_options
@click.option("--variant", help="Which energy, if the model has several: pbe for energy/pbe.")
@click.option("--extensions", help="Folder with the TorchScript extensions that the model needs.")
@click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="Python module that registers an extension, such as sphericart.torch for SOAP-BPNN.",
)
@worker_options("expensive")
def metatomic(
    serve: Serve,
    model: str,
    device: str,
    variant: str | None,
    extensions: str | None,
    imports: tuple[str, ...],
    threads: int | None,
) -> None:
    """Evaluate MODEL, an exported metatomic model.

    Such as PET or SOAP-BPNN.

    It computes in the precision it was exported in. Extensions are programs: use those you trust.

    \b
    Example:
      mixserver-worker metatomic pet.pt --device cuda --server tcp://head-node:5555
    """
    from mixserver_worker.engines.metatomic.engine import MetatomicEngine

    engine = MetatomicEngine(
        model,
        variant=variant,
        extensions=extensions,
        imports=imports,
        device=device,
        threads=threads,
    )
    serve(engine)
