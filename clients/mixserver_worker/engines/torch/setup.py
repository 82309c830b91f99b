"""Device, precision and threads of a torch engine, and its model card. Torch is imported late."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Literal

from mixserver.core.errors import ConfigError, MissingPackage
from mixserver.wire.worker import ModelCard

if TYPE_CHECKING:
    import torch

    from mixserver_worker.engines.torch.site_model import SiteModel

Precision = Literal["float64", "float32", "model"]
"""Of a model's arithmetic; "model" is that of its file."""


def set_up(device: str, threads: int | None, skin: float, extra: str) -> torch.device:
    """Check the settings that all torch engines share, and set the threads.

    Args:
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        threads: CPU threads; None leaves torch's choice.
        skin: Å by which neighbour lists extend beyond the cutoff.
        extra: of mixserver, which installs torch for this engine.

    Raises:
        ConfigError: a setting is not possible here.
        MissingPackage: torch is not installed.
    """
    if not 0.0 <= skin < math.inf:
        raise ConfigError(f"skin must be 0 Å or more, got {skin}")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingPackage(str(error.name), extra) from error
    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(device)


def choose_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ConfigError: no such name, or no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number.isdecimal() or name == "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        raise ConfigError(
            f"device {name} was requested, but torch {torch.__version__} finds {count} CUDA "
            "devices. Use --device cpu, or install a CUDA build of torch and its driver."
        )
    return torch.device(name)


def choose_precision(name: str, own: torch.dtype) -> torch.dtype:
    """The precision of this name.

    Args:
        name: "float64", "float32" or "model".
        own: precision in which the model is stored.

    Raises:
        ConfigError: no such precision, or the model's own is neither double nor single.
    """
    import torch

    known = {"float64": torch.float64, "float32": torch.float32, "model": own}
    if name not in known:
        raise ConfigError(f"dtype must be float64, float32 or model, got {name!r}")
    if known[name] not in (torch.float64, torch.float32):
        raise ConfigError(f"the model is stored as {own}; choose float64 or float32")
    return known[name]


def model_card(
    engine: str,
    name: str,
    model: SiteModel,
    dtype: torch.dtype,
    defined: str,
    *,
    distance: float | None = None,
) -> ModelCard:
    """The card of a torch model: site weights and site energies, and how far it looks.

    Args:
        engine: which one.
        name: of the model, for messages.
        model: the model.
        dtype: precision of its arithmetic.
        defined: text that changes whenever results could; its sha256 is the fingerprint.
        distance: Å that a site energy looks, of a model that gets positions and cell besides edge
            vectors; see `TorchEngine`.
    """
    return ModelCard(
        engine=engine,
        name=name,
        fingerprint=hashlib.sha256(defined.encode()).hexdigest(),
        species=tuple(sorted(model.species)),
        cutoff=model.cutoff,
        receptive_field=model.layers * model.cutoff if distance is None else distance,
        weights=True,
        energies=True,
        replicas=distance is None,
        dtype=str(dtype).removeprefix("torch."),
    )
