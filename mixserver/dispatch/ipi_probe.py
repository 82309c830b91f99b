"""What a stock i-PI client holds and can read, found out by asking it.

i-PI's protocol has no word for it: LAMMPS' fix ipi answers for as many atoms as it is asked about,
with zeros for those that it does not have, and reads six of a cell's nine numbers. Each function
is a generator of questions that is sent the answers and returns what is wrong, or "".
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from mixserver.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.wire.ipi import Reply

_NUDGE: Final = np.array([0.11, -0.07, 0.05])
"""Å by which an atom is moved to see whether that matters."""
_SHEAR: Final = 0.05
"""Part of a lattice vector by which a cell is sheared to see whether that matters."""
_SAME: Final = 1e-9
"""Two answers differ by less of their size if the client saw no difference."""
_EV: Final = 1e-3
"""eV, and eV/Å: a difference that is no rounding error in single precision either."""
_NET: Final = 0.01
"""eV/Å, and the fraction of the largest force, beyond which a net force is no rounding error."""
_PART: Final = 1e-6
"""The same, as a fraction of the energy."""


class Question(NamedTuple):
    """One configuration, as a client is to get it."""

    positions: Vectors
    """(n, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""


Probe: TypeAlias = Generator[Question, Reply, str]


def holds_all(asked: Question, numbers: Numbers, first: Reply) -> Probe:
    """Find out whether atoms with forces of exactly zero are there at all.

    An atom that is there need not feel anything: it may be far from all others, or held in place
    by the client. So it is moved; and if that changes nothing, it changes places with an atom of
    its element that does feel a force. No question where no force, or every force, is zero.

    Args:
        asked: what was asked first.
        numbers: (n,) atomic numbers.
        first: the answer to it.
    """
    felt = first.forces.any(axis=1)
    silent, loud = np.flatnonzero(~felt), np.flatnonzero(felt)
    if not len(silent) or not len(loud):
        return ""
    atom = int(silent[-1])
    moved = asked.positions.copy()
    moved[atom] += _NUDGE
    if not _alike((yield Question(moved, asked.cell)), first):
        return ""
    alike = loud[numbers[loud] == numbers[atom]]
    partners = alike if len(alike) else loud
    partner = int(partners[np.abs(first.forces[partners]).max(axis=1).argmax()])
    exchanged = asked.positions.copy()
    exchanged[[atom, partner]] = exchanged[[partner, atom]]
    answer = yield Question(exchanged, asked.cell)
    if answer.forces[atom].any():
        return ""
    if len(alike) and abs(answer.energy - first.energy) <= _PART * abs(first.energy) + _EV:
        return ""  # it counts, but the client keeps it where it is
    others = f" and {len(silent) - 1} others were" if len(silent) > 1 else " was"
    return (
        f"it was asked about {len(asked.positions)} atoms and answers as if atom {atom} (counted "
        f"from 0){others} not there: forces on them are exactly zero, moving atom {atom} changes "
        f"nothing, and in the place of atom {partner} it is missed. Give the client (LAMMPS: "
        "read_data) all atoms of mix.toml's upstream.structure, in its order. If its force field "
        "leaves these atoms out on purpose, set workers.clients_probe = false"
    )


def holds_no_more(asked: Question, first: Reply) -> Probe:
    """Find out whether a client computes more atoms than it was asked about.

    LAMMPS' fix ipi takes the positions of the others from whatever lies in memory behind what it
    was sent, if it does not die of it. They stay where they are when all atoms that it was asked
    about are moved. No question where forces add up to zero.

    Args:
        asked: what was asked first.
        first: the answer to it.
    """
    net = float(np.abs(first.forces.sum(axis=0)).max())
    if net <= _NET * (1.0 + float(np.abs(first.forces).max(initial=0.0))):
        return ""
    moved = yield Question(asked.positions + 10.0 * _NUDGE, asked.cell)
    apart = abs(moved.energy - first.energy)
    if apart <= _PART * abs(first.energy) + _EV:
        return ""
    return (
        f"its forces on {len(asked.positions)} atoms add up to {net:.3g} eV/Å, and its energy "
        f"changes by {apart:.3g} eV when all of them are moved together: it computes more atoms "
        "than it was asked about, or an external potential. Give the client (LAMMPS: read_data) "
        "the atoms of mix.toml's upstream.structure and no others; if it has an external "
        "potential, set workers.clients_probe = false"
    )


def takes_images(asked: Question, pbc: tuple[bool, bool, bool], first: Reply) -> Probe:
    """Find out whether it is all the same to a client which image of an atom it is sent.

    Args:
        asked: what was asked first.
        pbc: along which lattice vectors the system repeats.
        first: the answer to it.
    """
    steps = np.random.default_rng(2).integers(-1, 2, asked.positions.shape) * np.asarray(pbc)
    if not steps.any():
        return ""
    moved = yield Question(asked.positions + steps @ asked.cell, asked.cell)
    apart = abs(moved.energy - first.energy)
    if apart <= _PART * abs(first.energy) + _EV:
        return ""
    return (
        f"its energy changes by {apart:.3g} eV when atoms are moved by whole lattice vectors: it "
        "needs molecules in one piece, or is not periodic. With a [region], atoms are wrapped into "
        "the cell one by one, so it would compute torn molecules: use a potential that takes the "
        "nearest images, or this one without a region. If its energies are random on purpose, set "
        "workers.clients_probe = false"
    )


def keeps_order(asked: Question, numbers: Numbers, first: Reply) -> Probe:
    """Find out whether a client has the elements in the order of the structure.

    Atoms of the same element change places: nothing may change but the order of the forces. That
    tells another order for certain, but not which element is which. No question where there is
    one element only.

    Args:
        asked: what was asked first.
        numbers: (n,) atomic numbers.
        first: the answer to it.
    """
    if len(np.unique(numbers)) < 2:
        return ""
    order = _exchanged(numbers)
    answer = yield Question(asked.positions[order], asked.cell)
    energy = abs(answer.energy - first.energy)
    force = float(np.abs(answer.forces - first.forces[order]).max())
    largest = float(np.abs(first.forces).max())
    if energy <= _PART * abs(first.energy) + _EV and force <= 10 * (_EV * largest + _EV):
        return ""
    return (
        f"its answer changes by {energy:.3g} eV and {force:.3g} eV/Å when atoms of the same "
        "element change places: it has the elements in another order than mix.toml's "
        "upstream.structure. Give it the same order. A force field with bonds, or with charges of "
        "single atoms, tells atoms of one element apart, too: if it is one, make sure of the order "
        "yourself and set workers.clients_probe = false"
    )


def reads_any_cell(asked: Question) -> Probe:
    """Find out whether a client reads all nine numbers of a cell.

    Three numbers are zero in a cell as i-PI has it (a along x, b in the xy plane). A client that
    does not see when these change, but sees when the three opposite ones do, would take a turned
    cell for another.

    Args:
        asked: a configuration in such a cell.
    """
    still = yield asked
    sizes = _SHEAR * np.diag(asked.cell)
    below, above = asked.cell.copy(), asked.cell.copy()
    below[[1, 2, 2], [0, 0, 1]] += sizes[[0, 0, 1]]  # what i-PI uses
    above[[0, 0, 1], [1, 2, 2]] += sizes[[0, 0, 1]]  # what is zero in i-PI
    if not _alike((yield Question(asked.positions, above)), still):
        return ""
    if _alike((yield Question(asked.positions, below)), still):
        return ""  # it has no use for a cell here
    return (
        "it reads six of the nine numbers of a cell, as LAMMPS' fix ipi does, but was sent a cell "
        "whose vector a is not along x, or b not in the xy plane (<ffrotations>, or ASE "
        "upstream): it would compute another system. Set workers.clients_geometry = "
        '"standard" to have cells and atoms turned for it and its answer turned back'
    )


def _alike(one: Reply, other: Reply) -> bool:
    """Whether two answers are the same but for rounding."""
    largest = float(np.abs(other.forces).max(initial=0.0))
    return (
        abs(one.energy - other.energy) <= _SAME * abs(other.energy)
        and float(np.abs(one.forces - other.forces).max(initial=0.0)) <= _SAME * largest
    )


def _exchanged(numbers: Numbers) -> Indices:
    """(n,) a permutation in which every atom takes the place of another one of its element."""
    dice = np.random.default_rng(1)
    order = np.arange(len(numbers))
    for kind in np.unique(numbers):
        members = dice.permutation(np.flatnonzero(numbers == kind))
        order[members] = np.roll(members, 1)
    return order
