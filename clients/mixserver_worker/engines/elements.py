"""Symbols of the chemical elements, because a worker may lack ASE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mixserver.core.errors import ConfigError

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
    """Symbols of elements, each once, as "C, Si"; other numbers as "Z = 0"."""
    return ", ".join(
        SYMBOLS[z] if 0 < z < len(SYMBOLS) else f"Z = {z}"
        for z in sorted({int(number) for number in numbers})
    )


def numbers_of(option: str, text: str) -> list[int]:
    """Atomic numbers of symbols with commas between them.

    Args:
        option: where the text came from, for the message.
        text: such as "Si,C".

    Raises:
        ConfigError: one is not the symbol of an element.
    """
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in NUMBERS]
    if unknown:
        raise ConfigError(f"{option} {text}: {unknown[0]!r} is not an element symbol")
    return [NUMBERS[name] for name in names]
