"""The soft set: snapshots as sampled, strained, and with a vacancy, all divided into groups.

Random numbers come from the recipe's seed, so the same snapshots give the same structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from mixserver.analysis.bulk.supercell import without_atom
from mixserver.core.arrays import Groups, Matrix
from mixserver.core.frame import Frame
from mixserver.core.strain import strained
from mixserver.distill.config.schema import Soft
from mixserver.distill.data.atom_groups import SCHEMES, divide_atoms, single_group
from mixserver.distill.data.labels import Structure
from mixserver.distill.data.md_sampling import Snapshot

RandomKey: TypeAlias = tuple[int, int, int]
"""The seed, the purpose and the number of a structure, from which its random numbers come."""
_HOT: Final = 0
_STRAINED: Final = 1
_VACANCY: Final = 2
"""Purposes, so that more of one kind do not change the others."""


def soft_structures(snapshots: Sequence[Snapshot], soft: Soft, groups: int) -> list[Structure]:
    """The structures of the soft set: kinds "hot", "strained" and "vacancy", in this order.

    Raises:
        ValueError: fewer snapshots than strained ones or vacancies.
    """
    found: list[Structure] = []

    def add(name: str, kind: str, snapshot: Snapshot, frame: Frame, key: RandomKey) -> None:
        group = divided(frame, groups, key)
        found.append(Structure.of(frame, name, kind, group, snapshot.temperature))

    for at, snapshot in enumerate(snapshots):
        add(snapshot.name, "hot", snapshot, snapshot.frame, (soft.seed, _HOT, at))
    for at, snapshot in enumerate(_some(snapshots, soft.strained, soft.seed, _STRAINED)):
        key = (soft.seed, _STRAINED, at)
        strain = random_strain(soft.strain, np.random.default_rng([*key, 1]))
        add(f"strained-{at:03d}", "strained", snapshot, strained(snapshot.frame, strain), key)
    for at, snapshot in enumerate(_some(snapshots, soft.vacancies, soft.seed, _VACANCY)):
        key = (soft.seed, _VACANCY, at)
        gone = int(np.random.default_rng([*key, 1]).integers(len(snapshot.frame)))
        add(f"vacancy-{at:03d}", "vacancy", snapshot, without_atom(snapshot.frame, gone), key)
    return found


def random_strain(largest: float, random: np.random.Generator) -> Matrix:
    """A symmetric strain (3, 3), each component uniform between plus and minus `largest`."""
    strain = np.zeros((3, 3))
    upper = np.triu_indices(3)
    strain[upper] = random.uniform(-largest, largest, 6)
    return strain + np.triu(strain, 1).T


def divided(frame: Frame, groups: int, key: RandomKey) -> Groups:
    """The group of each atom (N,), of at most `groups`; schemes alternate between structures."""
    count = min(groups, len(frame))
    if count == 1:
        return single_group(len(frame))
    scheme = SCHEMES[key[2] % len(SCHEMES)]
    return divide_atoms(frame, count, scheme, np.random.default_rng([*key, 0]))


def _some(snapshots: Sequence[Snapshot], count: int, seed: int, purpose: int) -> list[Snapshot]:
    """A random choice without repetition."""
    if count > len(snapshots):
        raise ValueError(f"cannot choose {count} of {len(snapshots)} snapshots")
    order = np.random.default_rng([seed, purpose]).permutation(len(snapshots))
    return [snapshots[at] for at in order[:count]]
