"""`mixserver-worker nequip`: a NequIP or Allegro model on a GPU or CPU."""

from __future__ import annotations

import click

from mixserver_worker.cli.options import Serve, worker_options
from mixserver_worker.cli.torch_options import torch_options


@click.command()
@click.argument("package")
@torch_options
@worker_options("expensive")
def nequip(serve: Serve, package: str, device: str, threads: int | None) -> None:
    """Evaluate PACKAGE, a NequIP or Allegro model (.nequip.zip).

    nequip-package makes it from a checkpoint. The model's units must be Å and eV; it computes in
    the precision it was trained in. Reading a package runs the code in it: use files you trust.

    \b
    Example:
      mixserver-worker nequip si.nequip.zip --device cuda --server tcp://head-node:5555
    """
    from mixserver_worker.engines.nequip.engine import NequipEngine

    serve(NequipEngine(package, device=device, threads=threads))
