"""Imports symmetrix-xl and checks that it has the interface that `stages` uses.

symmetrix-xl chooses one backend per process: its CPU wheel or, with a wheel for the GPU at hand
installed beside it, CUDA. Its evaluators for CUDA and for several CPU threads are built on Kokkos
and have the same stages as the plain ones, which are faster on one thread.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any, Final

from mixserver.core.errors import ConfigError

KNOWN: Final = "0.1.1"
"""Version of symmetrix-xl known to work."""

_STAGES: Final = (
    "prepare_active_types",
    "compute_node_energies_forces",
    "compute_Y",
    *(f"{way}_A0_scaled" for way in ("compute", "reverse")),
    *(f"{way}_A1_scaled" for way in ("compute", "reverse")),
    *(f"{way}_{stage}" for way in ("compute", "reverse") for stage in ("A0", "M0", "H1")),
    *(f"{way}_{stage}" for way in ("compute", "reverse") for stage in ("Phi1", "A1", "M1", "H2")),
    "compute_R0",
    "compute_R1",
    "compute_readouts",
    "set_streamed_edges",
)
_VALUES: Final = (
    *("H1", "H1_adj", "H2_adj", "node_energies", "node_forces"),
    *("atomic_numbers", "r_cut", "L_max", "first_interaction_residual"),
    *("single_layer_readout", "has_field_coupling"),
)


class Unavailable(ConfigError):
    """Symmetrix-xl cannot evaluate this model here; the message says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """The imported package and its backend."""

    native: Any
    """Its compiled module."""
    version: str
    device: str
    """"cpu" or "cuda"."""

    def evaluator_class(self, dtype: str, threads: int) -> type:
        """The class that evaluates stages.

        Args:
            dtype: "float64" or "float32".
            threads: CPU threads; the plain class uses one only.

        Raises:
            Unavailable: it lacks a stage.
        """
        kokkos = self.device != "cpu" or threads > 1
        name = f"MACE{'Kokkos' if kokkos else ''}{'Float' if dtype == 'float32' else ''}"
        found: type | None = getattr(self.native, name, None)
        if found is None:
            raise Unavailable(f"symmetrix-xl {self.version} has no {name}{_known(self.version)}")
        missing = [name for name in (*_STAGES, *_VALUES) if not hasattr(found, name)]
        if missing:
            raise Unavailable(
                f"{name} of symmetrix-xl {self.version} lacks {', '.join(missing)}"
                f"{_known(self.version)}"
            )
        if kokkos and not self.native._kokkos_is_initialized():
            self.native._init_kokkos()
        return found


def import_symmetrix(device: str) -> Package:
    """Import symmetrix-xl for a device.

    Args:
        device: "cpu", "cuda" or "cuda:N", which must exist.

    Raises:
        Unavailable: it is not installed, does not run here, or has no backend for the device.
    """
    wanted, _, number = device.partition(":")
    if number not in ("", "0"):
        raise Unavailable(
            f"symmetrix-xl takes the first visible GPU, not {device}: use --gpu {number} instead, "
            "which shows the worker that one only"
        )
    os.environ.setdefault("OMP_PROC_BIND", "false")  # workers share their cores
    try:
        frontend = importlib.import_module("symmetrix")
        native = frontend.load_backend("cpu" if wanted == "cpu" else None)
        backend = dict(frontend.selected_backend() or {})
    except ModuleNotFoundError as error:
        if error.name != "symmetrix":
            raise Unavailable(f"symmetrix-xl needs {error.name}, which is not installed") from error
        raise Unavailable(
            "symmetrix-xl is not installed. In mixserver's project folder, do: "
            'pip install -e ".[symmetrix]"'
        ) from error
    except Exception as error:  # a processor without AVX2, another backend in this process, ...
        raise Unavailable(f"symmetrix-xl does not run here: {error}") from error
    if backend.get("backend") != wanted:
        raise Unavailable(
            f"symmetrix-xl has no backend for {wanted} here, it offers {backend.get('selector')}. "
            "Install its wheel for this GPU (symmetrix backend install), or use --device cpu"
        )
    return Package(native, str(getattr(frontend, "__version__", "of unknown version")), wanted)


def _known(version: str) -> str:
    return "" if version == KNOWN else f"; {KNOWN} is known to work"
