"""Find, read and check metatomic models (PET, SOAP-BPNN and others, by metatrain or by hand).

A model is a TorchScript file, which may need extensions: shared libraries, whose code runs when
they are loaded. Only the file and the folder named on the worker's command line are read, and the
file's sha256 goes into the model card. Torch and metatomic are imported inside functions.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mixserver.core.errors import ConfigError, MissingPackage

if TYPE_CHECKING:
    import torch

_POINTER: Final = b"version https://git-lfs"
_ENERGY: Final = "energy"


@dataclass(frozen=True, slots=True)
class MetatomicModel:
    """An exported model."""

    module: Any
    """The scripted metatomic.torch.AtomisticModel."""
    name: str
    sha256: str
    """Of the file, hex."""
    output: str
    """Its output with the energy: "energy" or "energy/VARIANT"."""
    species: tuple[int, ...]
    interaction_range: float
    """Å."""
    dtype: str
    """Precision of its inputs, "float64" or "float32"."""
    requests: tuple[Any, ...]
    """The neighbour lists that it asks for (metatomic.torch.NeighborListOptions)."""


def read_model(
    file: str,
    variant: str | None,
    extensions: str | None,
    imports: Sequence[str],
    device: torch.device,
) -> MetatomicModel:
    """Read an exported model and check it.

    Args:
        file: path of the model.
        variant: of the energy, "" or None for the plain one or the only one.
        extensions: folder with the TorchScript extensions that it needs.
        imports: Python modules that register extensions, imported first.
        device: on which it must run.

    Raises:
        ConfigError: there is no such file, or the model cannot give site energies of a finite
            range from atoms and a cell, in units that it states.
        MissingPackage: metatomic-torch is not installed.
    """
    path = Path(file).expanduser()
    data = _read_bytes(path)
    with quiet():
        module = _load(path, data, extensions, imports)
    can = module.capabilities()
    output = _output(path, can, variant)
    if can.dtype not in {"float64", "float32"}:
        raise ConfigError(f"{path} computes in {can.dtype or 'an unstated precision'}")
    if device.type not in can.supported_devices:
        raise ConfigError(f"{path} runs on {', '.join(can.supported_devices)}, not {device.type}")
    if not can.length_unit or not can.outputs[output].unit:
        raise ConfigError(
            f"{path} does not state the units of its lengths ({can.length_unit or 'none'}) and of "
            f"its {output} ({can.outputs[output].unit or 'none'}), so its forces could be wrong. "
            "Export it with units."
        )
    distance = float(can.engine_interaction_range("angstrom"))
    if not math.isfinite(distance):
        raise ConfigError(
            f"{path} has a long-range part (its interaction range is {distance}), so no finite "
            "receptive field. It cannot be used here."
        )
    inputs = list(module.requested_inputs(use_new_names=True))
    if inputs:
        raise ConfigError(f"{path} needs {', '.join(inputs)}, which is not sent here")
    return MetatomicModel(
        module=module,
        name=module.metadata().name or path.stem,
        sha256=hashlib.sha256(data).hexdigest(),
        output=output,
        species=tuple(int(number) for number in can.atomic_types),
        interaction_range=distance,
        dtype=can.dtype,
        requests=tuple(module.requested_neighbor_lists()),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of torch and metatomic when a model is read or runs for the first time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*(is|are) deprecated")
        yield


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the model {path.absolute()}: {error.strerror}. Give the path of a model "
            "exported by metatrain (mtt export) or metatomic, usually NAME.pt."
        ) from error
    if not data or data.startswith(_POINTER):
        what = "a pointer of Git LFS: run git lfs pull" if data else "empty: copy it again"
        raise ConfigError(f"the model file {path} is {what}")
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise ConfigError(
            f"the model file {path} is incomplete or damaged, or no exported model: it has "
            f"{len(data)} bytes. Compare its size or sha256sum with the original's; a checkpoint "
            "(.ckpt) must be exported first (mtt export)."
        )
    return data


def _load(path: Path, data: bytes, extensions: str | None, imports: Sequence[str]) -> Any:
    import torch

    try:
        from metatomic.torch import check_atomistic_model, load_model_extensions
    except ModuleNotFoundError as error:
        raise MissingPackage(str(error.name).partition(".")[0], "metatomic") from error
    for name in imports:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"--import {name}: {error}; is the package installed here?"
            ) from error
    try:
        load_model_extensions(str(path), extensions)
        check_atomistic_model(str(path))
        load: Any = torch.jit.load
        module = load(io.BytesIO(data), map_location="cpu")
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ConfigError(
            f"{path} cannot be read as a metatomic model: {reason} If it needs extensions of "
            "TorchScript, install the packages that it was exported with and name their modules, "
            "such as --import sphericart.torch."
        ) from error
    if getattr(module, "original_name", "") != "AtomisticModel":
        raise ConfigError(f"{path} is no metatomic model; export it (mtt export)")
    return module.eval()


def _output(path: Path, can: Any, variant: str | None) -> str:
    """Name of the output with the energy per atom."""
    names = [name for name in can.outputs if name.partition("/")[0] == _ENERGY]
    wanted = f"{_ENERGY}/{variant}" if variant else _ENERGY
    if not variant and _ENERGY not in names and len(names) == 1:
        (wanted,) = names
    if wanted not in names:
        known = ", ".join(names) or "none; its outputs are " + ", ".join(can.outputs)
        raise ConfigError(
            f"{path} has no output {wanted!r}; its energies are {known}. Choose one with --variant"
        )
    if can.outputs[wanted].sample_kind != "atom":
        raise ConfigError(
            f"{path} gives the {wanted} of a system only, not of its atoms, so sites cannot be "
            "weighted. Without site weights, for force mixing: mixserver-worker ase "
            "metatomic_ase:MetatomicCalculator"
        )
    return wanted
