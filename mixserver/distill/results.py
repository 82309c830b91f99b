"""What a distillation found, as values that go into report.json and from there into the report.

Units are in the names of the fields or beside them. What was not to be had is None; a number that
could not be told is NaN. Knows no models.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import inspect

from mixserver.crystal.portrait import Portrait
from mixserver.distill.descriptor import Descriptor


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings."""


class Errors(_Value, frozen=True):
    """Root mean square errors over some structures that were not fitted."""

    of: str
    """Which structures: "hot 600 K", "strained 600 K", "vacancy 900 K"."""
    energy: float
    """eV per atom."""
    forces: float
    """eV/Å, of components."""
    virial: float
    """eV per atom."""
    structures: int = 0
    """How many they are of; 0 if nobody said."""


class Ghost(_Value, frozen=True):
    """Ghost forces around a spherical region in the perfect crystal, with the expensive model."""

    core: float
    blend: float
    """Å; a blend of 0 is an abrupt end."""
    largest: float
    rms: float
    """eV/Å; the mean is over the atoms of the blend."""


class Candidate(_Value, frozen=True):
    """One cheap potential, and how it compares."""

    label: str
    """"constrained", "unconstrained", "no partition", a stock potential's name, "2J = 6, 5.5 Å"."""
    descriptor: Descriptor | None = None
    """None for a potential that was not fitted here."""
    pair_functions: int = 0
    pair_cutoff: float = 0.0
    """Å."""
    coefficients: int = 0
    """How many there are."""
    constraints: int = 0
    """How many of them are taken up by constraints."""
    partition_weight: float = 0.0
    ridge: float = 0.0
    errors: tuple[Errors, ...] = ()
    """By kind of structure, of the test set."""
    ghosts: tuple[Ghost, ...] = ()
    portrait: Portrait | None = None
    microseconds: float | None = None
    """Per atom, with energies, one thread of this machine."""
    microseconds_error: float = 0.0
    """Half the range of the middle half of the measurements."""
    spread: float | None = None
    """eV: rms of e_i - c_i less its mean over atoms of the hot test structures. Grad-lambda forces
    are this times the slope of lambda."""
    inclusion: float | None = None
    """Strain error of a sheared crystal with a spherical expensive inclusion, relative to the
    strain applied."""
    trouble: str = ""
    """Why something is missing."""

    def forces(self, of: str) -> float | None:
        """eV/Å, the error of forces of one kind of structure."""
        return next((errors.forces for errors in self.errors if errors.of == of), None)

    def ghost(self, blend: float) -> Ghost | None:
        """Ghost forces of one blend."""
        return next((ghost for ghost in self.ghosts if ghost.blend == blend), None)


class FrontPoint(_Value, frozen=True):
    """One weight of the partition rows, and what came of it."""

    weight: float
    forces: float
    """eV/Å, validation error."""
    ghost: float
    """eV/Å, rms over the fitted regions."""
    chosen: bool = False


class Parity(_Value, frozen=True):
    """Expensive against cheap, for the pictures; of the test set."""

    of: str
    energy: tuple[list[float], list[float]]
    """eV per atom: expensive, cheap."""
    forces: tuple[list[float], list[float]]
    """eV/Å, a selection of components."""
    virial: tuple[list[float], list[float]]
    """eV per atom."""


class Trial(_Value, frozen=True):
    """The crystal in the cheap potential's own dynamics, after one fit."""

    temperature: float
    """K."""
    ps: float
    """Of each trajectory."""
    broke: tuple[float | None, ...]
    """ps, when an atom of each trajectory had left its site; None where all held."""
    frames: int = 0
    """So many frames of that were labelled, and fitted next."""

    @property
    def held(self) -> int:
        """How many trajectories did."""
        return sum(when is None for when in self.broke)


class Result(_Value, frozen=True):
    """A whole distillation."""

    name: str
    elements: tuple[str, ...]
    expensive: str
    """The model, as its worker calls it."""
    fingerprint: str
    portrait: Portrait
    """The expensive model's."""
    ghost_free: bool
    """Whether partition rows could be had at all."""
    candidates: tuple[Candidate, ...]
    """The first is the one that was written."""
    pinned: tuple[str, ...] = ()
    """Of "lattice" and "elastic" those that exact constraints were to hold."""
    trials: tuple[Trial, ...] = ()
    """One after the other; the last is of the first candidate."""
    front: tuple[FrontPoint, ...] = ()
    parity: tuple[Parity, ...] = ()
    """Of the first candidate."""
    sweep: tuple[Candidate, ...] = ()
    recommended: str = ""
    """Label of the recommended candidate of the sweep."""
    seconds: dict[str, float] = {}
    """Wall time of each step."""
    notes: tuple[str, ...] = ()
    """What a reader must know: constraints that were redundant, structures that were left out."""


def write_result(result: Result) -> bytes:
    """As JSON, for people and programs. What is not finite is null: JSON has no such number."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1)


def read_result(text: bytes) -> Result:
    """The same from JSON. A null where a number must be is NaN again.

    Raises:
        msgspec.ValidationError: it is not of this version.
        msgspec.DecodeError: it is no JSON.
    """
    return msgspec.convert(_numbers(msgspec.json.decode(text), inspect.type_info(Result)), Result)


def _numbers(value: Any, kind: inspect.Type) -> Any:
    """The value with NaN for null wherever the type wants a number and nothing else."""
    match kind, value:
        case inspect.FloatType(), None:
            return math.nan
        case inspect.StructType(fields=fields), dict():
            known = {field.encode_name: field.type for field in fields}
            return {k: _numbers(v, known[k]) if k in known else v for k, v in value.items()}
        case inspect.DictType(value_type=inner), dict():
            return {k: _numbers(v, inner) for k, v in value.items()}
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner), list():
            return [_numbers(v, inner) for v in value]
        case inspect.TupleType(item_types=inners), list() if len(inners) == len(value):
            return [_numbers(v, inner) for v, inner in zip(value, inners, strict=True)]
        case inspect.UnionType(types=(inner, inspect.NoneType())), _ if value is not None:
            return _numbers(value, inner)
    return value
