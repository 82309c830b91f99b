"""Settings of SNAP descriptors, in the terms of LAMMPS's pair_style snap.

They travel from the server to the program that computes descriptor rows.
"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_TWOJMAX: Final = 14


class SnapDescriptor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The descriptors of one SNAP.

    Elements i and j interact within (radii[i] + radii[j]) * cutoff, so that with the usual radii of
    0.5 `cutoff` is the cutoff in Å.
    """

    twojmax: int
    """2J, the resolution: 2, 4, 6, 8."""
    cutoff: float
    """rcutfac, Å."""
    elements: tuple[str, ...]
    """Symbols, in the order of the coefficients' blocks."""
    radii: tuple[float, ...]
    """One per element."""
    weights: tuple[float, ...]
    """Neighbour density weight, one per element."""
    rfac0: float = 0.99363
    rmin0: float = 0.0
    quadratic: bool = False
    """quadraticflag: products of descriptors too."""
    bzero: bool = True
    """bzeroflag: an isolated atom has no descriptor."""

    def __post_init__(self) -> None:
        if not 0 < self.twojmax <= MAX_TWOJMAX:
            raise ValueError(f"twojmax is {self.twojmax}; it must be 1 to {MAX_TWOJMAX}")
        if not 1.0 <= self.cutoff <= 20.0:
            raise ValueError(f"cutoff is {self.cutoff} Å; it must be 1 to 20 Å")
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"elements are {self.elements}; name each once, at least one")
        for name, values in (("radii", self.radii), ("weights", self.weights)):
            if len(values) != len(self.elements):
                raise ValueError(
                    f"{name} has {len(values)} values for {len(self.elements)} elements"
                )
        if min(self.radii) <= 0.0:
            raise ValueError(f"radii are {self.radii}; they must be above 0")

    @property
    def reach(self) -> float:
        """The longest cutoff of any two elements, Å."""
        return 2.0 * max(self.radii) * self.cutoff

    @property
    def bispectrum(self) -> int:
        """Number of bispectrum components of an atom."""
        return sum(
            1
            for j1 in range(self.twojmax + 1)
            for j2 in range(j1 + 1)
            for j in range(j1 - j2, min(self.twojmax, j1 + j2) + 1, 2)
            if j >= j1
        )

    @property
    def columns(self) -> int:
        """Coefficients per element: one constant, and one per descriptor."""
        n = self.bispectrum
        return 1 + n + (n * (n + 1) // 2 if self.quadratic else 0)
