"""What others found for helium on W(100): reflected fractions and mean depths.

R is read to 0.01 and depths to 0.3 Å off the plots in ML-MIX's repository (case study
W_He_implantation). There is no number where the plots have none.
"""

from __future__ import annotations

from math import nan
from typing import Final

ML_MIX: Final = {
    10: (0.985, -4.2, 0.5),
    15: (0.886, -5.0, 0.4),
    20: (0.849, -6.5, nan),
    25: (0.778, -7.8, 0.4),
    30: (0.773, -9.8, 0.6),
    35: (0.691, -11.1, 0.5),
    40: (0.739, -14.5, 0.9),
    50: (0.66, -17.7, 0.85),
    60: (0.645, -23.5, 1.15),
    70: (nan, -28.7, 1.3),
    80: (nan, -31.7, 1.55),
    90: (nan, -38.6, 1.8),
    100: (nan, -43.5, 2.2),
}
"""E (eV): R, depth (Å) and its error; MACE and SNAP, forces mixed by ML-MIX, 1000 K."""
MACE_ALONE: Final = {
    10: (0.98, -3.4, nan),
    15: (0.912, -5.2, 0.6),
    20: (0.833, -6.9, 0.9),
    25: (0.765, -10.0, 0.85),
    30: (0.784, -9.7, 0.8),
    35: (0.765, -9.6, 1.1),
    40: (0.676, -12.2, 1.05),
}
"""The same, MACE for all atoms, in a slab of half the thickness."""
EAM: Final = {10: 1.0, 20: 0.976, 30: 0.907, 40: 0.835, 60: 0.74, 80: 0.666, 100: 0.60}
"""R of V. Borovikov, A. F. Voter and X.-Z. Tang, arXiv:1401.2183."""
EXPERIMENT: Final = {8.2: 0.988, 15.5: 0.944, 25.5: 0.808, 51.2: 0.643, 102.5: 0.41}
"""R measured by A. A. van Gorkum."""
