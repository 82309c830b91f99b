"""The soft set's structures: snapshots as they are, strained, and with a vacancy; all divided.

Everything random comes from the recipe's seed, so the same snapshots make the same structures.
The hard set and the perfect crystal are not made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.arrays import Matrix
from mixserver.distill.hot import Snapshot
from mixserver.distill.labelled import Structure
from mixserver.distill.masks import WAYS, divide, undivided
from mixserver.distill.recipe import Soft
from mixserver.frame import Frame, Topology

_HOT: Final = 0
_STRAINED: Final = 1
_VACANCY: Final = 2
"""What random numbers are for: more of one kind leave the others as they are."""


def soft_structures(snapshots: Sequence[Snapshot], soft: Soft, groups: int) -> list[Structure]:
    """The structures of the soft set.

    Args:
        snapshots: of the hot crystal, of at least `soft.strained` and `soft.vacancies`.
        soft: how many are strained and get a vacancy, and the seed.
        groups: K, into how many groups each is divided; small structures into as many as atoms.

    Returns:
        Kinds "hot", "strained" and "vacancy", in this order.

    Raises:
        ValueError: fewer snapshots than are to be changed.
    """
    found = [
        _structure(snapshot.name, "hot", snapshot, snapshot.frame, groups, (soft.seed, _HOT, at))
        for at, snapshot in enumerate(snapshots)
    ]
    for at, snapshot in enumerate(_some(snapshots, soft.strained, soft.seed, _STRAINED)):
        key = (soft.seed, _STRAINED, at)
        strain = random_strain(soft.strain, np.random.default_rng([*key, 1]))
        frame = strained(snapshot.frame, strain)
        found.append(_structure(f"strained-{at:03d}", "strained", snapshot, frame, groups, key))
    for at, snapshot in enumerate(_some(snapshots, soft.vacancies, soft.seed, _VACANCY)):
        key = (soft.seed, _VACANCY, at)
        gone = int(np.random.default_rng([*key, 1]).integers(len(snapshot.frame)))
        frame = without(snapshot.frame, gone)
        found.append(_structure(f"vacancy-{at:03d}", "vacancy", snapshot, frame, groups, key))
    return found


def random_strain(largest: float, random: np.random.Generator) -> Matrix:
    """(3, 3) symmetric strain, each component uniform between plus and minus `largest`."""
    strain = np.zeros((3, 3))
    upper = np.triu_indices(3)
    strain[upper] = random.uniform(-largest, largest, 6)
    return strain + np.triu(strain, 1).T


def strained(frame: Frame, strain: Matrix) -> Frame:
    """The frame with cell and atoms stretched by 1 + strain, (3, 3), symmetric."""
    stretch = np.eye(3) + strain
    return frame.topology.frame(frame.positions @ stretch, frame.cell @ stretch)


def without(frame: Frame, atom: int) -> Frame:
    """The frame with one atom removed."""
    topology = Topology(np.delete(frame.topology.numbers, atom), frame.topology.pbc)
    return topology.frame(np.delete(frame.positions, atom, axis=0), frame.cell)


def _structure(
    name: str,
    kind: str,
    snapshot: Snapshot,
    frame: Frame,
    groups: int,
    key: tuple[int, int, int],
) -> Structure:
    return Structure(
        name,
        kind,
        frame.topology.numbers,
        frame.positions,
        frame.cell,
        divided(frame, groups, key),
        snapshot.temperature,
    )


def divided(frame: Frame, groups: int, key: tuple[int, int, int]) -> NDArray[np.int32]:
    """(N,) the group of each atom, in another way from one structure to the next.

    Args:
        frame: the atoms.
        groups: how many groups; small structures have as many as atoms.
        key: the seed, the purpose and the number of the structure.
    """
    count = min(groups, len(frame))
    if count == 1:
        return undivided(len(frame))
    return divide(frame, count, WAYS[key[2] % len(WAYS)], np.random.default_rng([*key, 0]))


def _some(snapshots: Sequence[Snapshot], count: int, seed: int, purpose: int) -> list[Snapshot]:
    """So many of them, at random, none twice."""
    if count > len(snapshots):
        raise ValueError(f"{count} of {len(snapshots)} snapshots are to be changed")
    order = np.random.default_rng([seed, purpose]).permutation(len(snapshots))
    return [snapshots[at] for at in order[:count]]
