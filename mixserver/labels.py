"""What an atom's label says of its element: symbols, isotopes, names that mix.toml explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from mixserver.arrays import Numbers, Scalars
from mixserver.errors import ConfigError

ISOTOPES: Final[Mapping[str, str]] = {
    "D": "H",
    "T": "H",
    "C13": "C",
    "C14": "C",
    "O17": "O",
    "O18": "O",
    "Cl37": "Cl",
    "Br81": "Br",
}
"""Labels of i-PI that stand for an isotope: a mass of their own, and their element's potential."""
_DOUBT: Final = 0.25
"""By this part a mass may differ from its element's before it is worth a word."""


def known_numbers(labels: Sequence[str], named: Mapping[str, str]) -> Numbers:
    """(n,) atomic numbers of labels; 0 where a label is no element and nothing explains it.

    Args:
        labels: (n,) as a file has them.
        named: label -> element symbol, from mix.toml.

    Raises:
        ConfigError: `named` has something that is no element.
    """
    table: dict[str, int] = {}
    for label in set(labels):
        symbol = named.get(label, ISOTOPES.get(label, label))
        table[label] = 0 if symbol == "X" else atomic_numbers.get(symbol, 0)
        if label in named and not table[label]:
            raise ConfigError(
                f"upstream.labels: {label} = {symbol!r} is no element symbol; write the element "
                f"whose potential {label} has"
            )
    return np.array([table[label] for label in labels], dtype=np.int32)


def numbers_of(labels: Sequence[str], named: Mapping[str, str], where: str) -> Numbers:
    """(n,) atomic numbers of labels, all of which must be known.

    Args:
        labels: (n,) as a file has them.
        named: label -> element symbol, from mix.toml.
        where: the file, for the message.

    Raises:
        ConfigError: a label is no element and nothing explains it.
    """
    numbers = known_numbers(labels, named)
    unknown = np.flatnonzero(numbers == 0)
    if unknown.size:
        atom = int(unknown[0])
        all_of_them = sorted({labels[i] for i in unknown.tolist()})
        raise ConfigError(
            f"{where}: atom {atom} is {labels[atom]!r}, which is no element; say in mix.toml which "
            f"element's potential it has: [upstream.labels] with "
            + ", ".join(f'{label} = "..."' for label in all_of_them[:4])
        )
    return numbers


def doubtful_masses(labels: Sequence[str], numbers: Numbers, masses: Scalars) -> list[str]:
    """Labels whose atoms have a mass far from their element's, in words, one per label.

    Args:
        labels: (n,) as i-PI has them.
        numbers: (n,) what they were taken for; 0 for no element.
        masses: (n,) amu, as i-PI has them.
    """
    found: list[str] = []
    seen: set[str] = set()
    for label, z, mass in zip(labels, numbers.tolist(), masses.tolist(), strict=True):
        usual = float(atomic_masses[z]) if z else 0.0
        if label in seen or not z or label in ISOTOPES or abs(mass - usual) <= _DOUBT * usual:
            continue
        seen.add(label)
        found.append(
            f"{label!r} is taken for {chemical_symbols[z]} ({usual:.3f} amu), but i-PI moves it "
            f"with {mass:.3f} amu"
        )
    return found
