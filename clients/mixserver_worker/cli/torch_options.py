"""Options that the commands of all torch engines share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def torch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --device and --threads, and prepare the process before torch is imported."""

    @click.option(
        "--device", default="auto", show_default=True, help="auto (CUDA if any), cpu, cuda, cuda:N."
    )
    @click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads; default OMP_NUM_THREADS."
    )
    @functools.wraps(command)
    def wrapped(*args: Any, threads: int | None, **options: Any) -> None:
        from mixserver_worker.engines.threads import prepare_torch

        prepare_torch(threads)
        command(*args, threads=threads, **options)

    return wrapped
