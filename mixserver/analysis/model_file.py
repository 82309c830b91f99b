"""What a MACE .model file says of itself, read without running anything in it.

Such a file is a zip archive with a Python pickle and the raw bytes of tensors; unpickling it the
usual way calls whatever it names. Here every name stands for an inert object, except a few that
make plain containers and views of tensors. Nothing of torch, e3nn or mace is imported.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from mixserver.core.errors import ConfigError
from mixserver.wire.text import clean, quoted

_MOST_PICKLE: Final = 64 << 20
"""Bytes of the pickle that are read; published models have less than 1 MB."""
_MOST_TENSOR: Final = 1 << 20
"""Bytes of a tensor that is read: those of interest have a few numbers."""
_MOST_ITEMS: Final = 1_000_000
_TUPLES: Final = {pickle.TUPLE[0], pickle.TUPLE1[0], pickle.TUPLE2[0], pickle.TUPLE3[0]}
_STORAGES: Final[dict[str, np.dtype[Any]]] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}
_USUAL: Final = ("torch", "e3nn", "mace", "collections", "_codecs", "numpy")
"""Packages whose names are in the pickles of MACE models."""
_HARMLESS: Final = {"builtins.set", "__builtin__.set", "builtins.slice", "__builtin__.slice"}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model file says of itself."""

    kind: str
    """The class of the model, such as "ScaleShiftMACE"."""
    species: tuple[int, ...]
    """Atomic numbers."""
    cutoff: float
    """Å, of one layer."""
    layers: int
    dtype: str
    """Of its weights: "float32" or "float64"."""
    heads: tuple[str, ...]
    foreign: tuple[str, ...]
    """Names in the pickle that no MACE model needs; loading the file would look them up or call
    them."""

    @property
    def receptive_field(self) -> float:
        """Å, how far a site energy looks."""
        return self.layers * self.cutoff


def read_model_file(file: Path) -> ModelFacts:
    """Read what a model says of itself; nothing in the file is run.

    Raises:
        ConfigError: it cannot be read, or is no MACE model that was saved with torch.save.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _facts(archive, file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror or error})") from error
    except zipfile.BadZipFile as error:
        raise ConfigError(
            f"{file} is no archive of torch.save (is it complete, or a pointer of git-lfs?)"
        ) from error
    except _UNREADABLE as error:
        raise ConfigError(
            f"{file} is not a MACE model as torch.save writes it: {type(error).__name__} "
            f"{quoted(error.args)}"
        ) from error


_UNREADABLE: Final = (
    pickle.UnpicklingError,
    struct.error,
    AttributeError,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    zipfile.LargeZipFile,
)
"""What a pickle or an archive that was tampered with can raise."""


def _facts(archive: zipfile.ZipFile, file: Path) -> ModelFacts:
    root = archive.infolist()[0].filename.partition("/")[0]
    if any(entry.filename.startswith(f"{root}/code/") for entry in archive.infolist()):
        raise ConfigError(f"{file} is a compiled (TorchScript) model; give the .model file itself")
    reader = _Reader(_content(archive, f"{root}/data.pkl", _MOST_PICKLE))
    model = reader.load()
    if not isinstance(model, _Inert):
        raise ConfigError(f"{file} holds a {type(model).__name__} and no model (torch.save(model))")
    tensors = {**_table(model, "_buffers"), **_table(model, "_parameters")}

    def numbers(name: str) -> np.ndarray[Any, Any]:
        tensor: _Tensor = tensors[name]
        return tensor.read(archive, root)

    heads = model.state.get("heads") or ["Default"]
    if not isinstance(heads, list | tuple):
        raise TypeError("its heads are no list")
    return ModelFacts(
        kind=type(model).__name__,
        species=tuple(int(z) for z in numbers("atomic_numbers").ravel()),
        cutoff=float(numbers("r_max")),
        layers=int(numbers("num_interactions")),
        dtype=_dtype(model),
        heads=tuple(head if isinstance(head, str) else quoted(head) for head in heads[:100]),
        foreign=tuple(clean(name) for name in sorted(reader.names) if not _usual(name)),
    )


def _usual(name: str) -> bool:
    return name in _HARMLESS or name.partition(".")[0] in _USUAL


def _content(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive, if it is as small as it should be."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise ValueError(f"{name} has {size} bytes, more than {most}")
    with archive.open(name) as stream:  # the archive may state a size that is not true
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} has more than {most} bytes")
    return data


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor that is not read yet."""

    dtype: str
    key: str
    offset: int
    shape: tuple[int, ...]

    def read(self, archive: zipfile.ZipFile, root: str) -> np.ndarray[Any, Any]:
        """Its numbers; those that are read here have one or no dimension, so are contiguous."""
        dtype = _STORAGES[self.dtype]
        data = _content(archive, f"{root}/data/{self.key}", _MOST_TENSOR)
        count = math.prod(self.shape)
        flat: np.ndarray[Any, Any] = np.frombuffer(data, dtype, count, self.offset * dtype.itemsize)
        shaped: np.ndarray[Any, Any] = flat.reshape(self.shape)
        return shaped


class _Inert:
    """Stands for an object of any class; keeps what it was given, and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}

    def append(self, item: object) -> None:
        """An item of a list that it stands for."""

    def extend(self, items: object) -> None:
        """Items of a list that it stands for."""

    def __setitem__(self, key: object, value: object) -> None:
        """An item of a mapping that it stands for."""


_Load: TypeAlias = Callable[[Any], None]


def _weighed(load: _Load) -> _Load:
    """The same operation, which makes a tuple, with its size checked."""

    def checked(reader: Any) -> None:
        load(reader)
        reader.weigh(reader.stack[-1])

    return checked


class _Reader(pickle._Unpickler):
    """Unpickles with inert objects. In Python: the one in C allocates what a pickle asks for."""

    dispatch = {  # noqa: RUF012 - as in its parent
        code: _weighed(load) if code in _TUPLES else load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]  # makes an array of any size before it reads
    }

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names: set[str] = set()
        self._sizes: dict[int, tuple[int, tuple[object, ...]]] = {}
        """Of tuples, with all that is in them; by id, so they are kept."""

    def weigh(self, made: tuple[object, ...]) -> None:
        """Refuse a tuple that holds another many times over: hashing it would take for ever."""
        inner = (self._sizes[id(item)][0] for item in made if id(item) in self._sizes)
        size = len(made) + sum(inner)
        if size > _MOST_ITEMS:
            raise pickle.UnpicklingError(f"a tuple holds {size} items")
        self._sizes[id(made)] = size, made

    def find_class(self, module: str, name: str) -> object:
        """An inert class, or one of a few functions of our own; nothing is imported."""
        self.names.add(f"{module}.{name}")
        known: dict[tuple[str, str], Callable[..., object]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
        }
        if (module, name) in known:
            return known[module, name]
        return type(clean(name.rpartition(".")[2]), (_Inert,), {})

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """The kind and key of a storage of numbers."""
        _, kind, key, *_ = pid
        return kind.__name__, str(key)


def _tensor(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], *rest: object
) -> _Tensor:
    return _Tensor(storage[0], storage[1], int(offset), tuple(int(n) for n in shape))


def _table(module: _Inert, name: str) -> dict[str, Any]:
    found = module.state.get(name)
    return found if isinstance(found, dict) else {}


def _dtype(model: _Inert) -> str:
    """Precision of the weights: that of the largest number of them, in any part of the model."""
    counts: collections.Counter[str] = collections.Counter()
    parts, seen = [model], {id(model)}
    while parts:
        part = parts.pop()
        for tensor in _table(part, "_parameters").values():
            if isinstance(tensor, _Tensor):
                counts[tensor.dtype] += math.prod(tensor.shape)
        for inner in _table(part, "_modules").values():
            if isinstance(inner, _Inert) and id(inner) not in seen:
                seen.add(id(inner))
                parts.append(inner)
    return str(_STORAGES[counts.most_common(1)[0][0]])
