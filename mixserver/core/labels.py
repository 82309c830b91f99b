"""Elements of atom labels: symbols, isotopes, and names defined in mix.toml."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from mixserver.core.arrays import Numbers, Scalars
from mixserver.core.errors import ConfigError

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
"""Relative difference from the element's mass above which a mass is reported."""


def known_atomic_numbers(labels: Sequence[str], named: Mapping[str, str]) -> Numbers:
    """(n,) atomic numbers of labels; 0 where a label is neither an element nor in `named`.

    Args:
        labels: (n,) as a file has them.
        named: label -> element symbol, from mix.toml.

    Raises:
        ConfigError: `named` has a value that is not an element.
    """
    table: dict[str, int] = {}
    for label in set(labels):
        symbol = named.get(label, ISOTOPES.get(label, label))
        table[label] = 0 if symbol == "X" else atomic_numbers.get(symbol, 0)
        if label in named and not table[label]:
            raise ConfigError(
                f"upstream.labels: {label} = {symbol!r} is not an element symbol; write the "
                f"element whose potential {label} has"
            )
    return np.array([table[label] for label in labels], dtype=np.int32)


def atomic_numbers_of(labels: Sequence[str], named: Mapping[str, str], where: str) -> Numbers:
    """(n,) atomic numbers of labels, all of which must be known.

    Args:
        labels: (n,) as a file has them.
        named: label -> element symbol, from mix.toml.
        where: the file, for the message.

    Raises:
        ConfigError: a label is not an element and mix.toml does not define it.
    """
    numbers = known_atomic_numbers(labels, named)
    unknown = np.flatnonzero(numbers == 0)
    if unknown.size:
        atom = int(unknown[0])
        all_of_them = sorted({labels[i] for i in unknown.tolist()})
        raise ConfigError(
            f"{where}: atom {atom} is {labels[atom]!r}, which is not an element; specify in "
            f"mix.toml which element's potential it has: [upstream.labels] with "
            + ", ".join(f'{label} = "..."' for label in all_of_them[:4])
        )
    return numbers


def element_symbols(numbers: Iterable[int]) -> list[str]:
    """Element symbols of atomic numbers; "Z = n" for a number that no element has."""
    known = range(1, len(chemical_symbols))
    return [chemical_symbols[z] if z in known else f"Z = {z}" for z in numbers]


def unknown_elements(numbers: Numbers, species: Collection[int] | None) -> list[str]:
    """Symbols of the elements that a model does not know.

    Args:
        numbers: (n,) atomic numbers of a structure.
        species: atomic numbers that the model knows (`ModelCard.species`); None for any.
    """
    if species is None:
        return []
    return element_symbols(sorted(set(numbers.tolist()) - set(species)))


def unusual_masses(labels: Sequence[str], numbers: Numbers, masses: Scalars) -> list[str]:
    """Messages about labels whose atoms have a mass far from their element's, one per label.

    Args:
        labels: (n,) as i-PI has them.
        numbers: (n,) the elements they were taken for; 0 for none.
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
