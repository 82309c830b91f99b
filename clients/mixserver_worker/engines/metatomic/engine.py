"""The metatomic engine: how an exported model is loaded. `torch.engine` evaluates jobs with it.

Torch is imported when the engine is made, because `threads.prepare_torch` must be called before.
Reading a model runs code of its extensions, see `model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.metatomic.model import MetatomicModel, quiet, read_model
from mixserver_worker.engines.torch.engine import TorchEngine
from mixserver_worker.engines.torch.setup import model_card, set_up

if TYPE_CHECKING:
    import torch

    from mixserver_worker.engines.metatomic.site_energies import MetatomicSites


class MetatomicEngine(TorchEngine):
    """Evaluates jobs with one metatomic model, in the precision it was exported in.

    Args:
        model: path of an exported model (.pt).
        variant: of the energy, if the model has several ("pbe" for "energy/pbe").
        extensions: folder with the TorchScript extensions that it needs.
        imports: Python modules that register extensions, imported first.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        skin: Å by which neighbour lists extend beyond the cutoff, so that they hold for many steps.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        ConfigError: the model or the device is not available, or the model cannot be evaluated
            site by site.
        MissingPackage: torch or metatomic-torch is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        variant: str | None = None,
        extensions: str | None = None,
        imports: Sequence[str] = (),
        device: str = "auto",
        skin: float = 0.3,
        threads: int | None = None,
    ) -> None:
        where = set_up(device, threads, skin, "metatomic")  # before the model is read
        import torch

        read = read_model(model, variant, extensions, imports, where)
        precision = getattr(torch, read.dtype)
        sites = _load(read, where, precision)
        defined = f"metatomic {read.sha256} output={read.output}"
        card = model_card(
            "metatomic", read.name, sites, precision, defined, distance=sites.distance
        )
        super().__init__(sites, card, where, skin=skin, distance=sites.distance)


def _load(model: MetatomicModel, device: torch.device, dtype: torch.dtype) -> MetatomicSites:
    from mixserver_worker.engines.metatomic.self_test import derivative_problem, difference
    from mixserver_worker.engines.metatomic.site_energies import MetatomicSites

    with quiet():
        sites = MetatomicSites(model, device)
    try:
        problem = derivative_problem(sites, device, dtype) or difference(sites, device, dtype)
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error).strip()}"
    if problem:
        raise ConfigError(
            f"the model {model.name} cannot be evaluated site by site: {problem}. "
            "metatomic-torch 0.1.19 is known to work."
        )
    return sites
