"""Binding to LAMMPS's C library interface: commands, raw views of its arrays, errors as exceptions.

Views point into LAMMPS's own memory and are valid until its next command.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Block, Scalars, Vectors
from mixserver.core.errors import MissingPackage
from mixserver_worker.engines.lammps.loading import start_lammps

_GLOBAL, _ATOM, _LOCAL = 0, 1, 2  # LAMMPS's LMP_STYLE_*
_SCALAR, _VECTOR, _ARRAY = 0, 1, 2  # LAMMPS's LMP_TYPE_*
_ROWS, _COLUMNS = 4, 5  # LAMMPS's LMP_SIZE_*
_ABORT: Final = 2  # LAMMPS's error type when a single rank failed


class LammpsError(Exception):
    """LAMMPS stopped with an error; the message is LAMMPS's, without names of source files."""


class LammpsAbort(LammpsError):
    """LAMMPS failed on one MPI rank alone; the other ranks would wait for it for ever."""


class LammpsLibrary:
    """One LAMMPS instance.

    Args:
        arguments: command line switches, as of the lmp executable.
        comm: mpi4py communicator all of whose ranks open it; None for this process alone.

    Raises:
        MissingPackage: lammps is not installed.
        LammpsError: LAMMPS does not start with these switches.
    """

    def __init__(self, arguments: Sequence[str], comm: Any = None) -> None:
        try:
            self._lammps, self._lib = start_lammps(arguments, comm)
        except MissingPackage:
            raise
        except Exception as error:
            raise LammpsError(_without_source(str(error))) from error
        self._handle = self._lammps.lmp
        self._tag: Final[Any] = np.int64 if self.setting("tagint") == 8 else np.int32

    def close(self) -> None:
        """End the instance; its views become invalid."""
        self._lammps.close()

    def command(self, text: str) -> None:
        """Run one command.

        Raises:
            LammpsError: LAMMPS refused it.
        """
        self._lib.lammps_command(self._handle, text.encode())
        self._raise()

    def expand(self, text: str) -> str:
        """Replace the names of variables in a text by their values, as LAMMPS does in a command.

        Raises:
            LammpsError: a variable is unknown or has no value, or this LAMMPS is too old.
        """
        try:
            expand, free = self._lib.lammps_expand, self._lib.lammps_free
        except AttributeError as error:
            raise LammpsError(
                f"this build, version {self.version}, is too old to evaluate variables"
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
        """Date of the release, e.g. 20250722."""
        return int(self._lib.lammps_version(self._handle))

    def accelerated(self, package: str, category: str, setting: str) -> bool:
        """Whether an accelerator package has a setting, e.g. "GPU", "precision", "double"."""
        names = package.encode(), category.encode(), setting.encode()
        return bool(self._lib.lammps_config_accelerator(*names))

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
        """Current time step."""
        at = self._lib.lammps_extract_global(self._handle, b"ntimestep")
        return int(ctypes.c_int64.from_address(at).value)

    @property
    def atoms(self) -> int:
        """Number of atoms of all ranks together."""
        return int(self._lib.lammps_get_natoms(self._handle))

    def create_atoms(self, types: NDArray[np.int32], positions: Vectors) -> None:
        """Create atoms 1, 2, ...; every rank passes all and keeps those of its subdomain."""
        n = len(types)
        tags: NDArray[Any] = np.arange(1, n + 1, dtype=self._tag)
        types = np.ascontiguousarray(types, dtype=np.int32)
        positions = np.ascontiguousarray(positions)
        self._lib.lammps_create_atoms(
            self._handle,
            n,
            tags.ctypes.data,
            types.ctypes.data,
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

    def atom_indices(self, *, ghosts: bool = False) -> NDArray[Any]:
        """(nlocal,) index of the atom in each row of this rank, from 0; with ghosts (nall,)."""
        n = self.setting("nall" if ghosts else "nlocal")
        at = self._lib.lammps_extract_atom(self._handle, b"id")
        tags = _view(at if n else None, (n,), self._tag)
        return tags - 1

    def types(self, *, ghosts: bool = False) -> NDArray[np.int32]:
        """View of the atom types on this rank, (nlocal,), from 1; with ghosts (nall,)."""
        n = self.setting("nall" if ghosts else "nlocal")
        at = self._lib.lammps_extract_atom(self._handle, b"type")
        types: NDArray[np.int32] = _view(at if n else None, (n,), np.int32)
        return types

    def pair_matrix(self, name: str) -> Block:
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

    def request_tallies(self, computes: Sequence[str], *, ahead: int) -> None:
        """Have LAMMPS tally energies and virials for these computes, `ahead` steps from now."""
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

    def local(self, compute: str) -> Block:
        """View of the rows of a local compute on this rank, (rows, columns >= 2)."""
        return self._array(compute, _LOCAL)

    def table(self, compute: str) -> Block:
        """View of a global array compute, (rows, columns)."""
        return self._array(compute, _GLOBAL)

    def columns(self, compute: str) -> int:
        """Number of columns of a per-atom compute; 0 if it is a vector."""
        return int(ctypes.c_int.from_address(self._compute(compute, _ATOM, _COLUMNS)).value)

    def _array(self, compute: str, style: int) -> Block:
        at = self._compute(compute, style, _ARRAY, empty=style == _LOCAL)
        rows, columns = (
            int(ctypes.c_int.from_address(self._compute(compute, style, what)).value)
            for what in (_ROWS, _COLUMNS)
        )
        first = ctypes.c_void_p.from_address(at).value if at and rows else None
        return _view(first, (rows, columns))

    def _compute(self, name: str, style: int, kind: int, *, empty: bool = False) -> int:
        at = self._lib.lammps_extract_compute(self._handle, name.encode(), style, kind)
        self._raise()
        if not at and not empty:
            raise LammpsError(f"compute {name} has no data of this kind")
        return int(at or 0)

    def _raise(self) -> None:
        if not self._lib.lammps_has_error(self._handle):
            return
        buffer = ctypes.create_string_buffer(2000)
        code = self._lib.lammps_get_last_error_message(self._handle, buffer, len(buffer))
        message = _without_source(buffer.value.decode(errors="replace"))
        raise LammpsAbort(message) if code == _ABORT else LammpsError(message)


def _view(at: int | None, shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    if not at:
        return np.zeros(shape, dtype)
    element = np.ctypeslib.as_ctypes_type(dtype)
    return np.ctypeslib.as_array((element * int(np.prod(shape))).from_address(at)).reshape(shape)


def _without_source(message: str) -> str:
    """LAMMPS's message without the prefix, the source file and the quoted input line."""
    first = message.strip().split("\nLast ")[0].removeprefix("ERROR on proc 0: ")
    first = re.sub(r"\s*\(src/\S+:\d+\)", "", first.removeprefix("ERROR: "))
    return " ".join(first.split())
