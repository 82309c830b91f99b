"""Symbols of the chemical elements, so that a worker needs no ASE to know them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_TABLE: Final = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf "
    "Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)

SYMBOLS: Final[tuple[str, ...]] = ("", *_TABLE.split())
"""Index is the atomic number."""
NUMBERS: Final[dict[str, int]] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z}
"""Atomic number of each symbol."""


def listed(numbers: Iterable[int]) -> str:
    """Elements in words, each once: "C, Si"; what is no element as "Z = 0"."""
    return ", ".join(
        SYMBOLS[z] if 0 < z < len(SYMBOLS) else f"Z = {z}"
        for z in sorted({int(number) for number in numbers})
    )
