"""Any ASE calculator as an engine, for GAP, EMT and others.

Only ASE's own interface is used, so there are no site weights and, unless it is given, no cutoff.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mixserver.core.cell import complete_cell
from mixserver.core.errors import BadInput, ConfigError, MissingPackage, MixserverError, WorkerFault
from mixserver.wire.worker import Evaluate, ModelCard
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.validate_job import validate_job


class AseEngine:
    """An ASE calculator as a worker.

    Args:
        path: class or function that creates it, "package.module:Name" (or with a dot), or one of
            ASE's own: "emt".
        settings: its keyword arguments.
        cutoff: Å that one layer of the model looks, if known.
        receptive_field: Å that a site energy looks, if known; None takes the cutoff.
        species: atomic numbers the model knows; None if it takes any.
        no_virial: accept a calculator without stress: virials of periodic systems are then 0, so
            never use it with a barostat.

    Raises:
        ConfigError: there is no such calculator, it does not take the settings, or it has no
            stress and `no_virial` is not set.
        MissingPackage: ase is not installed.
    """

    def __init__(
        self,
        path: str,
        settings: Mapping[str, Any] | None = None,
        *,
        cutoff: float | None = None,
        receptive_field: float | None = None,
        species: Collection[int] | None = None,
        no_virial: bool = False,
    ) -> None:
        try:
            import ase
        except ImportError as error:
            raise MissingPackage("ase", "server") from error
        settings = dict(settings or {})
        constructor = _constructor(path)
        try:
            self._calculator = constructor(**settings)
        except MixserverError:
            raise
        except Exception as error:
            raise ConfigError(f"{path} does not take {settings}: {error}") from error
        can: Collection[str] = getattr(self._calculator, "implemented_properties", ())
        if "energy" not in can or "forces" not in can:
            raise ConfigError(
                f"{path} is not an ASE calculator with energy and forces: it has {can}"
            )
        self._stress = "stress" in can
        if not self._stress and not no_virial:
            raise ConfigError(
                f"{path} has no stress, so i-PI would get no virial. For runs without a barostat "
                "use --no-virial; virials of periodic systems are then 0."
            )
        self._atoms_of = ase.Atoms
        self._card = ModelCard(
            engine="ase",
            name=path,
            fingerprint=_fingerprint(path, settings),
            species=None if species is None else tuple(sorted(species)),
            cutoff=cutoff,
            receptive_field=cutoff if receptive_field is None else receptive_field,
            energies="energies" in can,
        )

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return self._card

    def evaluate(self, job: Evaluate) -> EngineResult:
        """Evaluate one job.

        Raises:
            BadInput: NaN, an unknown element, a criterion, site weights other than 1.
            WorkerFault: the calculator failed.
        """
        validate_job(job, self._card.species, self._card.name)
        if job.criterion or (job.weight is not None and not (job.weight == 1.0).all()):
            raise BadInput(
                f"job {job.job}: an ASE calculator has neither criteria nor site weights "
                "(its card says so)"
            )
        with_energies = job.energies and self._card.energies
        try:
            return self._evaluate(job, with_energies=with_energies)
        except NotImplementedError as error:
            raise BadInput(f"job {job.job}: {self._card.name} cannot do this: {error}") from error
        except MixserverError:
            raise
        except Exception as error:
            raise WorkerFault(f"{self._card.name}: {type(error).__name__}: {error}") from error

    def _evaluate(self, job: Evaluate, *, with_energies: bool) -> EngineResult:
        atoms = self._atoms_of(
            numbers=job.numbers,
            positions=job.positions,
            cell=complete_cell(job.cell, job.pbc)
            if np.linalg.matrix_rank(job.cell) < 3
            else job.cell,
            pbc=job.pbc,
            calculator=self._calculator,
        )
        forces = np.array(atoms.get_forces(), dtype=np.float64)
        energy = float(atoms.get_potential_energy())
        energies = np.array(atoms.get_potential_energies()) if with_energies else None
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise BadInput(
                f"job {job.job}: energy or forces of {self._card.name} are not finite; "
                "atoms have come too close to each other"
            )
        if not any(job.pbc):
            virial = job.positions.T @ forces
        elif self._stress:
            virial = -np.array(atoms.get_stress(voigt=False), dtype=np.float64) * atoms.get_volume()
        else:
            virial = np.zeros((3, 3))
        return EngineResult(energy, forces, 0.5 * (virial + virial.T), energies)

    def close(self) -> None:
        """Release the calculator."""
        del self._calculator


def _constructor(path: str) -> Any:
    """The class or function that creates the calculator."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module:
        from ase.calculators.calculator import get_calculator_class, names

        if path not in names:
            raise ConfigError(
                f"{path!r} is neither package.module:Name nor one of ASE's own calculators"
            )
        try:
            return get_calculator_class(path)
        except ImportError as error:
            raise ConfigError(f"ASE's calculator {path!r} cannot be imported: {error}") from error
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        cure = "is the package installed here?"
        if error.name == module.partition(".")[0]:
            cure += (
                " A module of yours in the case's folder is found with environment = "
                '{ PYTHONPATH = "." } in its [[local]], or PYTHONPATH=. before mixserver-worker'
            )
        raise ConfigError(f"{path!r}: {error}; {cure}") from error
    except AttributeError as error:
        raise ConfigError(f"{path!r}: there is no {name} in {module}") from error


def _fingerprint(path: str, settings: Mapping[str, Any]) -> str:
    """sha256 of path and settings, the package's version, and the contents of all files in them."""
    digest = hashlib.sha256()
    dotted = path.replace(":", ".")
    package = dotted.partition(".")[0] if "." in dotted else "ase"
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = ""
    digest.update(json.dumps([path, version]).encode())
    digest.update(_content(settings).encode())
    return digest.hexdigest()


def _content(value: Any) -> str:
    """A setting as text, with the contents of the files it names at any depth."""
    match value:
        case Mapping():
            entries = sorted((repr(key), _content(inner)) for key, inner in value.items())
            return f"{{{', '.join(f'{key}: {inner}' for key, inner in entries)}}}"
        case list() | tuple():
            return f"[{', '.join(map(_content, value))}]"
        case str() | Path() if value and Path(value).is_file():
            return f"sha256 {hashlib.sha256(Path(value).read_bytes()).hexdigest()}"
        case _:
            return repr(value)
