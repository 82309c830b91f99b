r"""What a region remembers from one evaluation of a bead to the next.

Hysteresis, after each evaluation with target :math:`\hat\lambda` (F. Birks et al., ML-MIX, 2025):

.. math::
    \lambda \leftarrow \lambda + \min(1, 1/\tau)\,(\hat\lambda - \lambda),\quad
    \tau = \tau_\mathrm{in}\ \text{if rising},\ \tau_\mathrm{out}\ \text{if falling}

then below 0.01 while falling becomes 0 and above 0.99 while rising becomes 1. Times are counted in
evaluations, because i-PI tells no time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mixserver.arrays import Indices, Scalars
from mixserver.errors import ConfigError

_NEARLY_OUT: Final = 0.01
_NEARLY_IN: Final = 0.99
_NEARLY_THERE: Final = 0.01


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


def arrive(share: Scalars, target: Scalars) -> Scalars:
    """Take the target where lambda (n,) is within 0.01 of it.

    `follow` alone comes ever nearer to a target between 0 and 1 that stands still.
    """
    return np.where(np.abs(share - target) < _NEARLY_THERE, target, share)


def _rate(time: float) -> float:
    return 1.0 if time <= 1.0 else 1.0 / time


@dataclass(slots=True)
class Memory:
    """What one bead's region remembers."""

    evaluations: int = 0
    """How many evaluations this bead has had."""
    active: Indices | None = None
    """(n,) atoms with lambda > 0 at the last evaluation; None before the first."""
    expensive: Scalars = field(default_factory=lambda: np.empty(0))
    """(n,) their lambda."""
    chosen: Indices | None = None
    """(s,) seeds a criterion chose last; None before the first choice."""
    summed: Scalars | None = None
    """(N,) sum of the criterion's samples since the last choice."""
    samples: int = 0
    """How many they are."""
    target: Indices | None = None
    """(t,) atoms with lambda > 0 at the last choice, where it is held; None before the first."""
    targeted: Scalars = field(default_factory=lambda: np.empty(0))
    """(t,) their lambda, towards which the present one goes."""
    work: float = 0.0
    """eV by which updates of lambda have changed the energy, in all."""

    def check(self, count: int | None = None) -> None:
        """Refuse a memory whose parts do not fit together, or are not of so many atoms.

        Raises:
            ConfigError: they do not.
        """
        for atoms, shares in ((self.active, self.expensive), (self.target, self.targeted)):
            active = 0 if atoms is None else len(atoms)
            if shares.shape != (active,) or not np.isfinite(shares).all():
                raise ConfigError(f"{active} atoms are active, but not as many have a lambda")
            if shares.size and not 0.0 <= shares.min() <= shares.max() <= 1.0:
                raise ConfigError("a lambda lies outside [0, 1]")
        if not math.isfinite(self.work):
            raise ConfigError(f"the work is {self.work} eV")
        if self.summed is not None and (self.summed.ndim != 1 or self.samples < 1):
            raise ConfigError("a criterion's sum needs one number per atom and at least one sample")
        for name, atoms in (
            ("active", self.active),
            ("chosen", self.chosen),
            ("aimed-at", self.target),
        ):
            if atoms is None or not atoms.size:
                continue
            if atoms.ndim != 1 or atoms.min() < 0 or (count is not None and atoms.max() >= count):
                raise ConfigError(f"an {name} atom is not among the {count} atoms there are")
        if self.summed is not None and count is not None and len(self.summed) != count:
            raise ConfigError(f"it is of {len(self.summed)} atoms, but there are {count}")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a restart file."""
        return {
            "evaluations": self.evaluations,
            "active": None if self.active is None else self.active.tolist(),
            "expensive": self.expensive.tolist(),
            "chosen": None if self.chosen is None else self.chosen.tolist(),
            "summed": None if self.summed is None else self.summed.tolist(),
            "samples": self.samples,
            "target": None if self.target is None else self.target.tolist(),
            "targeted": self.targeted.tolist(),
            "work": self.work,
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Memory:
        """Take back what `to_dict` gave, or gave before lambda could be held.

        Raises:
            ConfigError: it is not what `to_dict` gives.
        """
        try:
            return cls(
                evaluations=int(plain["evaluations"]),
                active=_indices(plain["active"]),
                expensive=np.array(plain["expensive"], dtype=np.float64),
                chosen=_indices(plain["chosen"]),
                summed=None
                if plain["summed"] is None
                else np.array(plain["summed"], dtype=np.float64),
                samples=int(plain["samples"]),
                target=_indices(plain.get("target")),
                targeted=np.array(plain.get("targeted", ()), dtype=np.float64),
                work=float(plain.get("work", 0.0)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no memory of a region: {error!r}") from error


def _indices(plain: list[int] | None) -> Indices | None:
    return None if plain is None else np.array(plain, dtype=np.intp)
