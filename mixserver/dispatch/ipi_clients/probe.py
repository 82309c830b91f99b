"""Tests of stock i-PI clients by trial evaluations: which atoms they have, what they read.

i-PI's protocol does not tell: LAMMPS' fix ipi returns forces for as many atoms as it is sent, with
zeros for those that it does not have, and reads six of a cell's nine numbers. Each function is a
generator that yields configurations, is sent the replies, and returns what is wrong, or "".
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from mixserver.core.arrays import Indices, Matrix, Numbers, Vectors
from mixserver.wire.ipi import Reply

_NUDGE: Final = np.array([0.11, -0.07, 0.05])
"""Å by which an atom is moved to see whether the reply changes."""
_SHEAR: Final = 0.05
"""Fraction of a lattice vector by which a cell is sheared to see whether the reply changes."""
_SAME: Final = 1e-9
"""Relative difference below which two replies are the same."""
_EV: Final = 1e-3
"""eV, and eV/Å: a difference beyond the rounding error of single precision."""
_NET: Final = 0.01
"""eV/Å, and the fraction of the largest force, beyond which a net force is not a rounding error."""
_PART: Final = 1e-6
"""The same, as a fraction of the energy."""


class Configuration(NamedTuple):
    """One configuration, as it is sent to a client."""

    positions: Vectors
    """(n, 3) Å."""
    cell: Matrix
    """(3, 3) Å, rows are lattice vectors."""


Probe: TypeAlias = Generator[Configuration, Reply, str]


def missing_atoms(sent: Configuration, numbers: Numbers, first: Reply) -> Probe:
    """Test whether the client has the atoms whose forces are exactly zero.

    The force on an atom that exists may be zero: it may be far from all others, or fixed by the
    client. So it is moved, and if that changes nothing, it is exchanged with an atom of its element
    that has a force. Skipped where no force, or every force, is zero.

    Args:
        sent: the first configuration.
        numbers: (n,) atomic numbers.
        first: the reply to it.
    """
    felt = first.forces.any(axis=1)
    silent, loud = np.flatnonzero(~felt), np.flatnonzero(felt)
    if not len(silent) or not len(loud):
        return ""
    atom = int(silent[-1])
    moved = sent.positions.copy()
    moved[atom] += _NUDGE
    if not _alike((yield Configuration(moved, sent.cell)), first):
        return ""
    alike = loud[numbers[loud] == numbers[atom]]
    partners = alike if len(alike) else loud
    partner = int(partners[np.abs(first.forces[partners]).max(axis=1).argmax()])
    exchanged = sent.positions.copy()
    exchanged[[atom, partner]] = exchanged[[partner, atom]]
    reply = yield Configuration(exchanged, sent.cell)
    if reply.forces[atom].any():
        return ""
    if len(alike) and abs(reply.energy - first.energy) <= _PART * abs(first.energy) + _EV:
        return ""  # it is evaluated, but the client keeps it in place
    others = f" and {len(silent) - 1} others were" if len(silent) > 1 else " was"
    return (
        f"it was sent {len(sent.positions)} atoms and replies as if atom {atom} (counted "
        f"from 0){others} not there: forces on them are exactly zero, moving atom {atom} changes "
        f"nothing, and in the place of atom {partner} it is missed. Give the client (LAMMPS: "
        "read_data) all atoms of mix.toml's upstream.structure, in its order. If its force field "
        "leaves these atoms out on purpose, set workers.clients_probe = false"
    )


def surplus_atoms(sent: Configuration, first: Reply) -> Probe:
    """Test whether a client computes more atoms than it is sent.

    LAMMPS' fix ipi reads the positions of the others from the memory behind the message, unless it
    crashes. They stay in place when all atoms that are sent are moved. Skipped where forces add up
    to zero.

    Args:
        sent: the first configuration.
        first: the reply to it.
    """
    net = float(np.abs(first.forces.sum(axis=0)).max())
    if net <= _NET * (1.0 + float(np.abs(first.forces).max(initial=0.0))):
        return ""
    moved = yield Configuration(sent.positions + 10.0 * _NUDGE, sent.cell)
    apart = abs(moved.energy - first.energy)
    if apart <= _PART * abs(first.energy) + _EV:
        return ""
    return (
        f"its forces on {len(sent.positions)} atoms add up to {net:.3g} eV/Å, and its energy "
        f"changes by {apart:.3g} eV when all of them are moved together: it computes more atoms "
        "than it is sent, or an external potential. Give the client (LAMMPS: read_data) "
        "the atoms of mix.toml's upstream.structure and no others; if it has an external "
        "potential, set workers.clients_probe = false"
    )


def image_dependence(sent: Configuration, pbc: tuple[bool, bool, bool], first: Reply) -> Probe:
    """Test whether the reply is independent of which periodic images of atoms are sent.

    Args:
        sent: the first configuration.
        pbc: along which lattice vectors the system repeats.
        first: the reply to it.
    """
    steps = np.random.default_rng(2).integers(-1, 2, sent.positions.shape) * np.asarray(pbc)
    if not steps.any():
        return ""
    moved = yield Configuration(sent.positions + steps @ sent.cell, sent.cell)
    apart = abs(moved.energy - first.energy)
    if apart <= _PART * abs(first.energy) + _EV:
        return ""
    return (
        f"its energy changes by {apart:.3g} eV when atoms are moved by whole lattice vectors: it "
        "needs molecules in one piece, or is not periodic. With a [region], atoms are wrapped into "
        "the cell one by one, so it would compute torn molecules: use a potential with "
        "nearest images, or this one without a region. If its energies are random on purpose, set "
        "workers.clients_probe = false"
    )


def wrong_order(sent: Configuration, numbers: Numbers, first: Reply) -> Probe:
    """Test whether the client has the elements in the order of the structure.

    Atoms of the same element are exchanged: only the order of the forces may change. That detects
    another order, but not a permutation of whole elements. Skipped where there is one element only.

    Args:
        sent: the first configuration.
        numbers: (n,) atomic numbers.
        first: the reply to it.
    """
    if len(np.unique(numbers)) < 2:
        return ""
    order = _exchanged(numbers)
    reply = yield Configuration(sent.positions[order], sent.cell)
    energy = abs(reply.energy - first.energy)
    force = float(np.abs(reply.forces - first.forces[order]).max())
    largest = float(np.abs(first.forces).max())
    if energy <= _PART * abs(first.energy) + _EV and force <= 10 * (_EV * largest + _EV):
        return ""
    return (
        f"its reply changes by {energy:.3g} eV and {force:.3g} eV/Å when atoms of the same "
        "element are exchanged: it has the elements in another order than mix.toml's "
        "upstream.structure. Give it the same order. A force field with bonds, or with charges of "
        "single atoms, distinguishes atoms of one element, too: if it is one, check the order "
        "yourself and set workers.clients_probe = false"
    )


def unread_cell_numbers(sent: Configuration) -> Probe:
    """Test whether a client reads all nine numbers of a cell.

    Three numbers are zero in i-PI's standard cell (a along x, b in the xy plane). A client whose
    reply does not change with these, but with the three opposite ones, misreads rotated cells.

    Args:
        sent: a configuration in such a cell.
    """
    still = yield sent
    sizes = _SHEAR * np.diag(sent.cell)
    below, above = sent.cell.copy(), sent.cell.copy()
    below[[1, 2, 2], [0, 0, 1]] += sizes[[0, 0, 1]]  # what i-PI uses
    above[[0, 0, 1], [1, 2, 2]] += sizes[[0, 0, 1]]  # what is zero in i-PI
    if not _alike((yield Configuration(sent.positions, above)), still):
        return ""
    if _alike((yield Configuration(sent.positions, below)), still):
        return ""  # the cell has no effect here
    return (
        "it reads six of the nine numbers of a cell, as LAMMPS' fix ipi does, but was sent a cell "
        "whose vector a is not along x, or b not in the xy plane (<ffrotations>, or ASE "
        "upstream): it would compute another system. Set workers.clients_geometry = "
        '"standard" to rotate cells and atoms for it and its reply back'
    )


def _alike(one: Reply, other: Reply) -> bool:
    """Whether two replies are equal but for rounding."""
    largest = float(np.abs(other.forces).max(initial=0.0))
    return (
        abs(one.energy - other.energy) <= _SAME * abs(other.energy)
        and float(np.abs(one.forces - other.forces).max(initial=0.0)) <= _SAME * largest
    )


def _exchanged(numbers: Numbers) -> Indices:
    """(n,) a permutation that exchanges atoms of the same element."""
    rng = np.random.default_rng(1)
    order = np.arange(len(numbers))
    for kind in np.unique(numbers):
        members = rng.permutation(np.flatnonzero(numbers == kind))
        order[members] = np.roll(members, 1)
    return order
