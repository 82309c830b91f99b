"""Results of a distillation, as values for report.json and the report.

Units are in the names of the fields or beside them. Unavailable values are None; a number that
could not be computed is NaN.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mixserver.analysis.bulk.properties import BulkProperties
from mixserver.wire.descriptor import SnapDescriptor

REPORTED_CORE: Final = 6.0
"""Å, of the regions for which ghost forces are reported."""
REPORTED_BLENDS: Final = (0.0, 4.0, 8.0)
"""Å, their blend widths."""
JUDGED_BLEND: Final = 4.0
"""Å, the one of them by which potentials are judged and recommended."""


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
    """Number of structures; 0 if unknown."""


class Ghost(_Value, frozen=True):
    """Ghost forces around a spherical region in the perfect crystal, with the expensive model."""

    core: float
    blend: float
    """Å; 0 for no blend."""
    largest: float
    rms: float
    """eV/Å; the mean is over the atoms of the blend."""


class Candidate(_Value, frozen=True):
    """One cheap potential, and its comparison with the expensive model."""

    label: str
    """"constrained", "unconstrained", "no partition", a stock potential's name, "2J = 6, 5.5 Å"."""
    descriptor: SnapDescriptor | None = None
    """None for a potential that was not fitted here."""
    pair_functions: int = 0
    pair_cutoff: float = 0.0
    """Å."""
    coefficients: int = 0
    """Number of coefficients."""
    constraints: int = 0
    """Number of coefficients that constraints fix."""
    partition_weight: float = 0.0
    ridge: float = 0.0
    errors: tuple[Errors, ...] = ()
    """By kind of structure, of the test set."""
    ghosts: tuple[Ghost, ...] = ()
    bulk: BulkProperties | None = msgspec.field(default=None, name="portrait")
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
    """The reason why values are missing."""

    def forces(self, of: str) -> float | None:
        """The error (eV/Å) of forces of one kind of structure."""
        return next((errors.forces for errors in self.errors if errors.of == of), None)

    def ghost(self, blend: float) -> Ghost | None:
        """Ghost forces of one blend."""
        return next((ghost for ghost in self.ghosts if ghost.blend == blend), None)


class FrontPoint(_Value, frozen=True):
    """One weight of the partition rows, with the errors of its fit."""

    weight: float
    forces: float
    """eV/Å, validation error."""
    ghost: float
    """eV/Å, rms over the fitted regions."""
    chosen: bool = False


class Parity(_Value, frozen=True):
    """Expensive and cheap values of the test set, for the parity plots."""

    of: str
    energy: tuple[list[float], list[float]]
    """eV per atom: expensive, cheap."""
    forces: tuple[list[float], list[float]]
    """eV/Å, a selection of components."""
    virial: tuple[list[float], list[float]]
    """eV per atom."""


class Curve(_Value, frozen=True):
    """One epoch of a co-training: errors of held-out labels, and how far the two experts differ."""

    epoch: int
    stage: int
    large: float | None
    small: float | None
    """eV/Å, rms errors of forces; None for one that is not trained."""
    energies: float | None
    """eV, rms difference of site energies on bulk structures."""
    forces: float | None
    """eV/Å, rms difference of forces there."""


class StabilityTest(_Value, frozen=True):
    """MD of the crystal with the cheap potential, after one fit."""

    temperature: float
    """K."""
    ps: float
    """Of each trajectory."""
    broke: tuple[float | None, ...]
    """ps, the time at which an atom left its site, per trajectory; None where none did."""
    frames: int = 0
    """Number of frames of failures that were labelled and added to the training set."""

    @property
    def survived(self) -> int:
        """Number of trajectories that did not break."""
        return sum(when is None for when in self.broke)


class Result(_Value, frozen=True):
    """A whole distillation, or a co-training."""

    name: str
    elements: tuple[str, ...]
    expensive: str
    """Name of the model, from its worker."""
    fingerprint: str
    bulk: BulkProperties = msgspec.field(name="portrait")
    """The expensive model's."""
    ghost_free: bool
    """Whether partition rows were available."""
    candidates: tuple[Candidate, ...]
    """The first is the written potential."""
    pinned: tuple[str, ...] = ()
    """Of "lattice" and "elastic" those with exact constraints."""
    trials: tuple[StabilityTest, ...] = ()
    """In order; the last is of the first candidate."""
    front: tuple[FrontPoint, ...] = ()
    parity: tuple[Parity, ...] = ()
    """Of the first candidate."""
    sweep: tuple[Candidate, ...] = ()
    recommended: str = ""
    """Label of the recommended candidate of the sweep."""
    trained: tuple[Curve, ...] = ()
    """The epochs of a co-training; empty for a distillation."""
    seconds: dict[str, float] = {}
    """Wall time of each step."""
    notes: tuple[str, ...] = ()
    """Remarks for the reader: redundant constraints, structures that were left out."""


def write_result(result: Result) -> bytes:
    """As JSON. Non-finite numbers become null."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1)
