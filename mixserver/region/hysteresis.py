r"""The state of a region from one evaluation of a bead to the next, and hysteresis.

Hysteresis, after each evaluation with target :math:`\hat\lambda` (as in ML-MIX: F. Birks et al.,
npj Comput. Mater. 12, 110, 2026):

.. math::
    \lambda \leftarrow \lambda + \min(1, 1/\tau)\,(\hat\lambda - \lambda),\quad
    \tau = \tau_\mathrm{in}\ \text{if rising},\ \tau_\mathrm{out}\ \text{if falling}

then below 0.01 while falling becomes 0 and above 0.99 while rising becomes 1. Times are counted in
evaluations, because i-PI sends no time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.errors import ConfigError

_NEARLY_OUT: Final = 0.01
_NEARLY_IN: Final = 0.99
_NEARLY_THERE: Final = 0.01
STORED_AS: Final = {
    "evaluations": "evaluations",
    "active": "active",
    "active_lambda": "expensive",
    "selected": "chosen",
    "summed": "summed",
    "samples": "samples",
    "target_atoms": "target",
    "target_lambda": "targeted",
    "work": "work",
}
"""What the fields of a `RegionState` are called in files."""


def follow(previous: Scalars, target: Scalars, time_in: float, time_out: float) -> Scalars:
    """Let lambda follow its target with a delay.

    Args:
        previous: (n,) lambda of the evaluation before.
        target: (n,) what lambda would be without memory.
        time_in: evaluations in which lambda rises; 1 or less follows at once.
        time_out: evaluations in which lambda falls.

    Returns:
        (n,) lambda of this evaluation.
    """
    rising, falling = target > previous, target < previous
    rate = np.where(rising, _rate(time_in), _rate(time_out))
    # where the rate is 1 the target is taken itself: previous + (target - previous) may differ
    delayed: Scalars = np.where(rate == 1.0, target, previous + rate * (target - previous))
    delayed[falling & (delayed < _NEARLY_OUT)] = 0.0
    delayed[rising & (delayed > _NEARLY_IN)] = 1.0
    return delayed


def arrive(lambda_: Scalars, target: Scalars) -> Scalars:
    """Take the target where lambda (n,) is within 0.01 of it.

    `follow` alone comes ever nearer to a target between 0 and 1 that stands still.
    """
    return np.where(np.abs(lambda_ - target) < _NEARLY_THERE, target, lambda_)


def _rate(time: float) -> float:
    return 1.0 if time <= 1.0 else 1.0 / time


@dataclass(slots=True)
class RegionState:
    """The state of one bead's region.

    Its arrays are replaced, never changed in place, so that states can share them.
    """

    evaluations: int = 0
    """Number of evaluations of this bead."""
    active: Indices | None = None
    """(n,) atoms with lambda > 0 at the last evaluation; None before the first."""
    active_lambda: Scalars = field(default_factory=lambda: np.empty(0))
    """(n,) their lambda."""
    selected: Indices | None = None
    """(s,) seeds that a criterion selected last; None before the first selection."""
    summed: Scalars | None = None
    """(N,) sum of the criterion's samples since the last selection."""
    samples: int = 0
    """Number of samples in `summed`."""
    target_atoms: Indices | None = None
    """(t,) atoms with lambda > 0 at the last selection, where lambda is held; None before it."""
    target_lambda: Scalars = field(default_factory=lambda: np.empty(0))
    """(t,) their lambda, towards which the present one goes."""
    work: float = 0.0
    """eV by which updates of lambda have changed the energy, in all."""

    def check(self, count: int | None = None) -> None:
        """Check that the parts fit together, and are of so many atoms.

        Raises:
            ConfigError: they do not.
        """
        for atoms, values in (
            (self.active, self.active_lambda),
            (self.target_atoms, self.target_lambda),
        ):
            active = 0 if atoms is None else len(atoms)
            if values.shape != (active,) or not np.isfinite(values).all():
                raise ConfigError(
                    f"{active} atoms are active, but not as many have a lambda that is finite"
                )
            if values.size and not 0.0 <= values.min() <= values.max() <= 1.0:
                raise ConfigError("a lambda lies outside [0, 1]")
        if not math.isfinite(self.work):
            raise ConfigError(f"the work is {self.work} eV")
        if self.summed is not None and (self.summed.ndim != 1 or self.samples < 1):
            raise ConfigError("a criterion's sum needs one number per atom and at least one sample")
        for name, atoms in (
            ("active", self.active),
            ("selected", self.selected),
            ("target", self.target_atoms),
        ):
            if atoms is None or not atoms.size:
                continue
            if atoms.ndim != 1 or atoms.min() < 0 or (count is not None and atoms.max() >= count):
                raise ConfigError(f"{name}: an atom is not among the {count} atoms there are")
        if self.summed is not None and count is not None and len(self.summed) != count:
            raise ConfigError(f"it is of {len(self.summed)} atoms, but there are {count}")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a restart file."""
        values = {name: getattr(self, field_) for field_, name in STORED_AS.items()}
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> RegionState:
        """The state that `to_dict` returned, in this version or an earlier one.

        Raises:
            ConfigError: it is something else.
        """
        try:
            summed = plain["summed"]
            return cls(
                evaluations=int(plain["evaluations"]),
                active=_indices(plain["active"]),
                active_lambda=np.array(plain["expensive"], dtype=np.float64),
                selected=_indices(plain["chosen"]),
                summed=None if summed is None else np.array(summed, dtype=np.float64),
                samples=int(plain["samples"]),
                target_atoms=_indices(plain.get("target")),
                target_lambda=np.array(plain.get("targeted", ()), dtype=np.float64),
                work=float(plain.get("work", 0.0)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is not the state of a region: {error!r}") from error


def _indices(plain: list[int] | None) -> Indices | None:
    return None if plain is None else np.array(plain, dtype=np.intp)
