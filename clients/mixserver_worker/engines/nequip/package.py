"""Find, read and check packages of NequIP and Allegro models.

A .nequip.zip file is a torch package: Python code and pickles. **Reading it runs them.** Therefore
only files named on the worker's command line are read, and their sha256 goes into the model card.
Torch is imported inside functions.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mixserver.core.errors import ConfigError, MissingPackage

_ENDING: Final = ".nequip.zip"
_POINTER: Final = b"version https://git-lfs"
_EAGER: Final = "eager_model.pkl"
"""The model as modules, beside one that torch.compile can take."""
_OTHERS: Final = {
    ".nequip.pt2": "is compiled, which hides its site energies and layers",
    ".nequip.pth": "is compiled, which hides its site energies and layers",
    ".pt2": "is compiled, which hides its site energies and layers",
    ".pth": "is compiled or from nequip before 0.7",
    ".ckpt": "is a checkpoint of a training run",
}
_BUILD: Final = "nequip-package build CHECKPOINT NAME.nequip.zip"
_SUPPLIED: Final = frozenset(
    {"pos", "edge_index", "edge_transpose_perm", "edge_cell_shift", "edge_vectors", "cell", "batch"}
    | {"num_atoms", "atom_types", "lmp_mliap_data", "num_local_ghost_atoms"}
)
"""Fields that a model may take: what follows from atoms and cell, or is for other programs."""


@dataclass(frozen=True, slots=True)
class Package:
    """A packaged model."""

    module: Any
    """The model (nequip.nn.GraphModel, by the code of the package) on the CPU."""
    name: str
    sha256: str
    """Of the file, hex."""
    cutoff: float
    """Å."""
    symbols: tuple[str, ...]
    """Element of each atom type."""
    dtype: str
    """Precision of its arithmetic, "float64" or "float32"."""
    pair_cutoffs: tuple[float, ...] | None
    """(types²,) Å by type of the centre and of the neighbour, if they differ from `cutoff`."""


def read_package(file: str) -> Package:
    """Read a package and check it.

    Args:
        file: path of a .nequip.zip file.

    Raises:
        ConfigError: there is no such file, it is no package, or its model needs other inputs than
            atoms and a cell.
        MissingPackage: a package that the model's code imports is not installed.
    """
    path = Path(file).expanduser()
    data = _read_bytes(path)
    with quiet():
        module = _load(data, path)
    metadata: Mapping[str, str] = module.metadata
    try:
        symbols = tuple(metadata["type_names"].split())
        cutoff, dtype = float(metadata["r_max"]), metadata["model_dtype"]
        pairs = metadata.get("per_edge_type_cutoff")
        pair_cutoffs = tuple(float(word) for word in pairs.split()) if pairs else None
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: the model does not state its {error}; {_renew()}") from error
    if dtype not in {"float64", "float32"}:
        raise ConfigError(f"{path}: the model computes in {dtype}, expected float64 or float32")
    if pair_cutoffs and len(pair_cutoffs) != len(symbols) ** 2:
        raise ConfigError(
            f"{path}: {len(pair_cutoffs)} cutoffs of pairs for {len(symbols)} atom types"
        )
    inputs = {str(field) for field in getattr(module, "model_input_fields", ())} - _SUPPLIED
    if inputs:
        raise ConfigError(
            f"{path} needs {', '.join(sorted(inputs))} of the whole system, which is not sent here"
        )
    name = path.name.removesuffix(_ENDING)
    digest = hashlib.sha256(data).hexdigest()
    return Package(module, name, digest, cutoff, symbols, dtype, pair_cutoffs)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of torch when a package is read or its code runs for the first time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
        yield


def _read_bytes(path: Path) -> bytes:
    for ending, what in _OTHERS.items():
        if path.name.endswith(ending):
            raise ConfigError(
                f"{path} {what}. Give a package (NAME{_ENDING}); {_BUILD} makes one from the "
                "checkpoint of the training."
            )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the package {path.absolute()}: {error.strerror}. Give the path of a "
            f"{_ENDING} file."
        ) from error
    if not data or data.startswith(_POINTER):
        what = "a pointer of Git LFS: run git lfs pull" if data else "empty: copy it again"
        raise ConfigError(f"the package {path} is {what}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ConfigError(
            f"the package {path} is incomplete or damaged, or no package ({error}): it has "
            f"{len(data)} bytes. Compare its size or sha256sum with the original's."
        ) from error
    if not any(name.endswith(f"/model/{_EAGER}") for name in names):
        raise ConfigError(f"{path} is no package of a NequIP or Allegro model; {_BUILD} makes one")
    return data


def _load(data: bytes, path: Path) -> Any:
    from torch.package.package_importer import PackageImporter

    try:
        with _storages_on_cpu():
            models = PackageImporter(io.BytesIO(data)).load_pickle(
                "model", _EAGER, map_location="cpu"
            )
    except ModuleNotFoundError as error:
        if error.name == "opt_einsum_fx":
            raise MissingPackage(error.name, "nequip") from error
        raise ConfigError(
            f"the code of the model in {path} imports {error.name}, which is not installed here: "
            f"pip install {str(error.name).replace('_', '-')}"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{path} cannot be read as a package of nequip: {type(error).__name__}: {error}. "
            f"{_renew()}"
        ) from error
    if not hasattr(models, "values"):
        raise ConfigError(f"{path} holds a {type(models).__name__}, not models; {_renew()}")
    (module, *others) = models.values()
    if others:
        raise ConfigError(
            f"{path} holds {len(others) + 1} models ({', '.join(models)}), expected one"
        )
    if not getattr(module, "is_graph_model", False):
        raise ConfigError(f"{path} holds a {type(module).__name__}, not a model; {_renew()}")
    return module


@contextmanager
def _storages_on_cpu() -> Iterator[None]:
    """Read tensors in nested pickles to the CPU, whatever device they were saved from."""
    import torch

    name = "_load_from_bytes"
    before = getattr(torch.storage, name)

    def on_cpu(data: bytes) -> Any:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)

    setattr(torch.storage, name, on_cpu)
    try:
        yield
    finally:
        setattr(torch.storage, name, before)


def _renew() -> str:
    return f"make the package again with nequip 0.19: {_BUILD}"
