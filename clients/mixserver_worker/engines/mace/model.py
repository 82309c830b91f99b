"""Find, read and check MACE model files.

A .model file is a Python pickle that may contain code: **reading it runs it**. Therefore only files
named on the worker's command line are read, and their sha256 goes into the model card, where
mix.toml can require it. Names such as "mace_mp:medium" go through mace-torch's own loader, which
downloads; this happens only if such a name was given.

Torch and mace are imported inside functions.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mixserver.core.errors import ConfigError, MissingPackage

_UNDERSTOOD: Final = ("MACE", "ScaleShiftMACE")
_REFUSED: Final = {
    "PolarMACE": "it has long-range electrostatics, so no finite receptive field",
    "MACELES": "it has a long-range Ewald part, so no finite receptive field",
    "AtomicDipolesMACE": "it predicts dipoles, no energies",
    "AtomicDielectricMACE": "it predicts dipoles and polarisabilities, no energies",
    "EnergyDipolesMACE": "it predicts energies through dipole readouts",
}
_ARCHIVE: Final = b"PK\x03\x04"
"""First bytes of torch's files, which are zip archives."""
_POINTER: Final = b"version https://git-lfs"
_LOADERS: Final = ("mace_mp", "mace_off")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model and its file."""

    module: Any
    """The torch module, on the CPU, in its own precision."""
    name: str
    """Name for messages and the model card."""
    sha256: str
    """Of the file, hex."""
    heads: tuple[str, ...]


def read_model(model: str) -> ModelFile:
    """Read a model file, or the file behind a name like "mace_mp:medium", and check it.

    Args:
        model: path of a .model file, or LOADER:NAME.

    Raises:
        ConfigError: there is no such file or name, or the model cannot give site energies.
        MissingPackage: mace-torch is not installed.
    """
    path = _find(model)
    data = _read_bytes(path, model)
    import_mace()
    module = _unpickle(data, path)
    _check(module, path)
    heads = tuple(str(head) for head in getattr(module, "heads", None) or ("Default",))
    name = model if model.startswith(_LOADERS) and ":" in model else path.stem
    return ModelFile(module, name, hashlib.sha256(data).hexdigest(), heads)


def head_index(heads: tuple[str, ...], head: str | None) -> int:
    """Index of the requested head.

    Raises:
        ConfigError: there is no such head, or no choice among several.
    """
    listed = ", ".join(repr(name) for name in heads)
    if head is None:
        if len(heads) > 1:
            raise ConfigError(f"the model has {len(heads)} heads, choose one of them: {listed}")
        return 0
    if head not in heads:
        raise ConfigError(f"the model has no head {head!r}; it has: {listed}")
    return heads.index(head)


def import_mace() -> None:
    """Import mace (which must precede e3nn) without the warnings of its dependencies.

    Raises:
        MissingPackage: torch or mace-torch is not installed.
    """
    try:
        # it prints that optional CUDA kernels are not installed
        with quiet(), redirect_stdout(io.StringIO()):
            importlib.import_module("mace.modules")
    except ModuleNotFoundError as error:
        raise MissingPackage(str(error.name), "mace") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of torch and e3nn when mace is imported or a model is read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
        yield


def _here(path: Path) -> str:
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def _find(model: str) -> Path:
    loader, colon, name = model.partition(":")
    if colon and loader in _LOADERS:
        return _download(loader, name)
    path = Path(model).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"there is no model file {model}{_here(path)}. Give the path of a .model file, or the "
            "name of a published model as mace_mp:NAME or mace_off:NAME (downloaded once by "
            "mace-torch, e.g. mace_mp:medium-mpa-0)."
        )
    return path


def _download(loader: str, name: str) -> Path:
    import_mace()
    with quiet():
        published = importlib.import_module("mace.calculators.foundations_models")
    urls: dict[str, str] = getattr(published, f"{loader}_urls")
    if name not in urls:
        raise ConfigError(f"mace-torch knows no model {loader}:{name}; it knows {', '.join(urls)}")
    try:
        if loader == "mace_mp":
            return Path(published.download_mace_mp_checkpoint(name))
        with quiet(), redirect_stdout(io.StringIO()):
            published.mace_off(model=name, device="cpu", return_raw_model=True)
    except (OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise ConfigError(f"mace-torch could not download {loader}:{name}: {cause}") from error
    return Path(published.get_cache_dir()) / Path(urls[name]).name


def _read_bytes(path: Path, model: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the model {model}: {error.strerror}") from error
    if not data or data.startswith(_POINTER):
        what = "a pointer of Git LFS: run git lfs pull" if data else "empty: copy it again"
        raise ConfigError(f"the model file {path} is {what}")
    if data.startswith(_ARCHIVE):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise ConfigError(
                f"the model file {path} is incomplete or damaged ({error}): it has {len(data)} "
                "bytes and begins like a model, but its table of contents at the end is missing. "
                "Copy it again, and compare its size or sha256sum with the original's"
            ) from error
        if any(name.endswith("/constants.pkl") for name in names):
            raise ConfigError(
                f"{path} is compiled (TorchScript), which hides the layers. Give the file it was "
                "made from: NAME.model, not NAME_compiled.model or NAME-lammps.pt."
            )
    return data


def _unpickle(data: bytes, path: Path) -> Any:
    import torch

    try:
        with quiet():
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ImportError,
        AttributeError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise ConfigError(
            f"{path} is no MACE model that mace-torch 0.3 can read ({type(error).__name__}: "
            f"{error}). Expected is the file that mace_run_train writes, NAME.model: is this "
            "another file, an incomplete copy, or a pointer of git-lfs?"
        ) from error


def _check(module: Any, path: Path) -> None:
    kind = type(module).__name__
    if kind in _REFUSED:
        raise ConfigError(f"{path} is a {kind}: {_REFUSED[kind]}. It cannot be used here.")
    if kind not in _UNDERSTOOD:
        raise ConfigError(
            f"{path} holds a {kind}, not a model; expected one of {', '.join(_UNDERSTOOD)} as "
            "written by mace_run_train (NAME.model or NAME_stagetwo.model, not a checkpoint)."
        )
    if hasattr(module, "joint_embedding"):
        wanted = ", ".join(getattr(module, "embedding_specs", {})) or "further inputs"
        raise ConfigError(f"{path} needs {wanted} of the whole system, which is not sent here.")
