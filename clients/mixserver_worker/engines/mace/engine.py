"""The MACE engine: how a MACE model is loaded. `torch.engine` evaluates jobs with it.

Torch and mace are imported when the engine is made, because `threads.prepare_torch` must be called
before. Reading a model file runs the code pickled in it, see `model`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.mace.model import head_index, import_mace, read_model
from mixserver_worker.engines.torch.engine import TorchEngine
from mixserver_worker.engines.torch.setup import Precision, choose_precision, model_card, set_up

if TYPE_CHECKING:
    import torch

    from mixserver_worker.engines.mace.self_test import ReferenceResult
    from mixserver_worker.engines.mace.site_energies import MaceSites

_log = logging.getLogger("mixserver.mace")


class MaceEngine(TorchEngine):
    """Evaluates jobs with one MACE model.

    Args:
        model: path of a .model file, or "mace_mp:NAME" / "mace_off:NAME".
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        dtype: precision of the model's arithmetic; "model" is that of the file. Edge vectors,
            sums of forces and energies are float64 in any case.
        head: name of the head, needed if the model has several.
        skin: Å by which neighbour lists extend beyond the cutoff, so that they hold for many steps.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        ConfigError: the model, the device, the precision or the head is not available.
        MissingPackage: torch or mace-torch is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: Precision = "float64",
        head: str | None = None,
        skin: float = 0.3,
        threads: int | None = None,
    ) -> None:
        where = set_up(device, threads, skin, "mace")  # before the model is read
        import_mace()
        read = read_model(model)
        index = head_index(read.heads, head)
        precision = choose_precision(dtype, next(read.module.parameters()).dtype)
        self.sites: MaceSites = _load(model, read.module, index, where, precision)
        name = str(precision).removeprefix("torch.")
        defined = f"mace {read.sha256} head={read.heads[index]} dtype={name}"
        card = model_card("mace", read.name, self.sites, precision, defined)
        super().__init__(self.sites, card, where, skin=skin)


def _load(
    model: str, module: Any, head: int, device: torch.device, dtype: torch.dtype
) -> MaceSites:
    """The module with kernels or, if they differ from mace's own result, without.

    Raises:
        ConfigError: results differ from mace's own without kernels, too.
    """
    from mixserver_worker.engines.mace.self_test import reference_result

    try:
        reference = reference_result(module, head)
    except Exception as error:
        problem = f"mace's own evaluation fails, {type(error).__name__}: {error}"
    else:
        sites, problem = _compared(module, head, reference, device, dtype, kernels=True)
        if sites:
            return sites
        _log.warning(
            "this model is evaluated with mace's own modules, which is slower: with "
            "mixserver's kernels, %s",
            problem,
        )
        module = read_model(model).module
        sites, problem = _compared(module, head, reference, device, dtype, kernels=False)
        if sites:
            return sites
    raise ConfigError(
        f"the model {model} cannot be evaluated site by site with this mace-torch: "
        f"{problem}. mace-torch 0.3.16 is known to work."
    )


def _compared(
    module: Any,
    head: int,
    reference: ReferenceResult,
    device: torch.device,
    dtype: torch.dtype,
    *,
    kernels: bool,
) -> tuple[MaceSites | None, str]:
    """A module set up and compared with mace, or None and what differs."""
    from mixserver_worker.engines.mace.site_energies import MaceSites
    from mixserver_worker.engines.torch.weighted_energy import cluster_energy

    try:
        sites = MaceSites(module, device=device, dtype=dtype, head=head, fast=kernels)
        got = cluster_energy(sites, reference.positions, reference.numbers, device, dtype)
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    problem = reference.difference(got.energies, got.forces, dtype)
    return (None, problem) if problem else (sites, "")
