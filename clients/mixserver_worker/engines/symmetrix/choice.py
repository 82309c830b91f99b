"""Which kernels evaluate a MACE model: those of symmetrix-xl, or torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from mixserver_worker.engine import Engine
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.symmetrix.engine import SymmetrixEngine
from mixserver_worker.engines.symmetrix.package import Unavailable
from mixserver_worker.engines.torch.setup import Precision

Kernels = Literal["auto", "symmetrix", "torch"]
_log = logging.getLogger("mixserver.mace")


def mace_engine(
    model: str,
    *,
    kernels: Kernels = "torch",
    device: str = "auto",
    dtype: Precision = "float64",
    head: str | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    compiled: bool = False,
) -> Engine:
    """An engine for a MACE model.

    Args:
        model: path of a .model file, or "mace_mp:NAME" / "mace_off:NAME".
        kernels: "symmetrix", "torch", or "auto": symmetrix where it can evaluate the model, with
            the reason in the log where it cannot.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        dtype: precision of the model's arithmetic; "model" is that of the file.
        head: name of the head, needed if the model has several.
        threads: CPU threads.
        cache: folder of converted models; None is the user's cache.
        compiled: with symmetrix, compile code for sites of equal weight.

    Raises:
        ConfigError: the model, device, precision or head is not available; `Unavailable` if
            "symmetrix" was requested but cannot evaluate the model.
        MissingPackage: torch or mace-torch is not installed.
    """
    if kernels != "torch":
        try:
            return SymmetrixEngine(
                model,
                device=device,
                dtype=dtype,
                head=head,
                threads=threads,
                cache=cache,
                compiled=compiled,
            )
        except Unavailable as reason:
            if kernels == "symmetrix":
                raise
            _log.info("torch evaluates this model: %s", reason)
    return MaceEngine(model, device=device, dtype=dtype, head=head, threads=threads)
