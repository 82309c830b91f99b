"""The NequIP and Allegro engine: how a package is loaded. `torch.engine` evaluates jobs with it.

Torch is imported when the engine is made, because `threads.prepare_torch` must be called before.
Reading a package runs the code in it, see `package`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mixserver.core.errors import ConfigError
from mixserver_worker.engines.nequip.package import Package, read_package
from mixserver_worker.engines.torch.engine import TorchEngine
from mixserver_worker.engines.torch.setup import model_card, set_up

if TYPE_CHECKING:
    import torch

    from mixserver_worker.engines.nequip.site_energies import NequipSites

_log = logging.getLogger("mixserver.nequip")


class NequipEngine(TorchEngine):
    """Evaluates jobs with one NequIP or Allegro model, in the precision it was packaged in.

    Args:
        package: path of a .nequip.zip file; its units must be Å and eV.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        skin: Å by which neighbour lists extend beyond the cutoff, so that they hold for many steps.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        ConfigError: the package or the device is not available, or its model cannot be evaluated
            site by site.
        MissingPackage: torch, or what the model's code needs, is not installed.
    """

    def __init__(
        self,
        package: str,
        *,
        device: str = "auto",
        skin: float = 0.3,
        threads: int | None = None,
    ) -> None:
        where = set_up(device, threads, skin, "nequip")  # before the package is read
        import torch

        read = read_package(package)
        sites = _load(read, where)
        precision = getattr(torch, read.dtype)
        card = model_card("nequip", read.name, sites, precision, f"nequip {read.sha256}")
        super().__init__(sites, card, where, skin=skin, edges=torch.float64)


def _load(package: Package, device: torch.device) -> NequipSites:
    """The model, with later layers evaluated only where they are needed if that is right.

    Raises:
        ConfigError: results differ from the model's own in any case.
    """
    from mixserver_worker.engines.nequip.self_test import difference
    from mixserver_worker.engines.nequip.site_energies import NequipSites

    problem = ""
    for cut in (True, False):
        sites = NequipSites(package, device, cut=cut)
        try:
            problem = difference(package, sites, device)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if not problem:
            return sites
        if cut and sites.layers > 1:
            _log.warning(
                "this model is evaluated with all of its layers on all atoms, which is slower: "
                "else, %s",
                problem,
            )
    raise ConfigError(
        f"the model {package.name} cannot be evaluated site by site: {problem}. Packages of "
        "nequip 0.19 and allegro 0.8 are known to work."
    )
