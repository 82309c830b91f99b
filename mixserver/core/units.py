"""Unit conversions, all with one pinned set of constants.

Inside mixserver: Å, eV, eV/Å, amu. Atomic units exist only on i-PI's wire. The constants are i-PI's
own (``ipi.utils.units`` of i-PI 3.3), so i-PI prints in eV and Å the very numbers of the workers.
Its electronvolt differs from CODATA 2018 by 1.0e-7 relative, 2 meV in 22 keV.
"""

from __future__ import annotations

from typing import Final

ANGSTROM: Final = 1.8897261
"""bohr per Å, as i-PI has it."""
ELECTRONVOLT: Final = 0.036749326
"""hartree per eV, as i-PI has it."""

BOHR: Final = 1.0 / ANGSTROM
"""Å per bohr."""
HARTREE: Final = 1.0 / ELECTRONVOLT
"""eV per hartree."""
EV_PER_ANGSTROM: Final = ELECTRONVOLT / ANGSTROM
"""hartree/bohr per eV/Å."""
HARTREE_PER_BOHR: Final = 1.0 / EV_PER_ANGSTROM
"""eV/Å per hartree/bohr."""

GIGAPASCAL: Final = 1.0 / 160.2176634
"""eV/Å³ per GPa, exact in the SI of 2019; never on i-PI's wire."""
TERAHERTZ: Final = 15.633304
"""THz of a mass of 1 amu on a spring of 1 eV/Å² (CODATA 2018)."""
BOLTZMANN: Final = 8.617333262e-5
"""eV/K (exact in the SI of 2019); never on i-PI's wire."""
