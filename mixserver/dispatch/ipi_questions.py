"""What a stock i-PI client is asked for a job: the configuration, and before it what must be known.

Knows the protocol's quirks and no sockets. Positions and cells are turned and wrapped here, and
answers turned back.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from mixserver.arrays import Matrix
from mixserver.dispatch.ipi_probe import (
    Probe,
    Question,
    holds_all,
    holds_no_more,
    keeps_order,
    reads_any_cell,
    takes_images,
)
from mixserver.wire.ipi import Reply
from mixserver.wire.ipi_server import ipi_virial
from mixserver.wire.worker import Blame, Evaluate, ModelCard, Role

Geometry: TypeAlias = Literal["as_sent", "standard"]

_FAR: Final = 4
"""Cells from which an atom is far away."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all clients of one address are treated by."""

    role: Role
    card: ModelCard
    """What they are; a stock client cannot say it itself."""
    geometry: Geometry = "standard"
    """"as_sent": the cell and all nine numbers of the virial go through unchanged. "standard": cell
    and atoms are turned so that a is along x and b in the xy plane, and answers are turned back."""
    test_count: bool = True
    """Test whether a client has all atoms, where forces are exactly zero."""
    test_order: bool = False
    """Test whether a client has the elements in the right order, before its first answer counts."""
    patience_s: float = 5.0
    """Seconds that a client may stop in the middle of a message."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A client that must not serve."""

    blame: Blame
    """"input" if no other client could serve either."""
    why: str


class Questions:
    """What one client is asked; remembers what was found out about it.

    Args:
        terms: how it is treated.
    """

    def __init__(self, terms: Terms) -> None:
        self.own_atoms = False
        """True if it has a structure of its own (LAMMPS, ASE): it did not ask for INIT, as i-PI's
        own drivers do, which take what they are sent."""
        self._terms = terms
        self._asked = 0
        self._tested = False
        self._reads_any_cell = False
        self._far = 0

    def about(self, job: Evaluate) -> Generator[Question, Reply, Reply | Unfit]:
        """Ask for a job.

        Returns:
            The answer to it, or why the client must not serve.
        """
        self._asked = len(job.positions)
        turn = standard_turn(job.cell)
        asked = Question(job.positions, job.cell)
        if self._terms.geometry == "standard":
            asked = _turned(asked, turn)
        elif self.own_atoms:
            near, far = _wrapped(job)
            self._far = max(self._far, far)
            if turn is not None and not self._reads_any_cell:
                if why := (yield from reads_any_cell(_turned(near, turn))):
                    return Unfit("input", why)
                self._reads_any_cell = True
            elif not self._tested and far > 1:
                # LAMMPS finds the images of atoms next to where it had them before, but at first
                # it computes nonsense, or nothing, for atoms that are not near its box.
                yield near
        reply = yield asked
        if not self._tested:
            if why := (yield from self._test(asked, job, reply)):
                return Unfit("worker", why)
            wrapped = self._terms.geometry == "standard" and self._terms.test_order
            if wrapped and (why := (yield from takes_images(asked, job.pbc, reply))):
                return Unfit("input", why)
            self._tested = True
        if self._terms.geometry == "as_sent":
            return reply
        forces, virial = reply.forces, ipi_virial(reply.virial)
        if turn is not None:
            forces, virial = forces @ turn.T, turn @ virial @ turn.T
        return Reply(reply.energy, forces, virial, reply.extras)

    def _test(self, asked: Question, job: Evaluate, first: Reply) -> Probe:
        """Whether the client has the atoms that it answers for."""
        why = ""
        if self._terms.test_count and self.own_atoms:
            why = yield from holds_all(asked, job.numbers, first)
        if not why and self._terms.test_order and self.own_atoms:
            why = yield from holds_no_more(asked, first)
        if not why and self._terms.test_order:
            why = yield from keeps_order(asked, job.numbers, first)
        return why

    @property
    def hint(self) -> str:
        """What a client that hung up may have died of; begins with a blank, or is empty."""
        if self.own_atoms and self._asked and not self._tested:
            return (
                f" (in its first job, of {self._asked} atoms: see what it says; its structure must "
                "hold as many)"
            )
        if self._far < _FAR:
            return ""
        return (
            f" (an atom is {self._far} cells away from where the cell begins, and LAMMPS' fix ipi "
            "ends at large jumps: see what it says, and set workers.clients_geometry = "
            '"standard")'
        )


def standard_turn(cell: Matrix) -> Matrix | None:
    """(3, 3) orthogonal Q for which cell @ Q is as i-PI has it (rows lower triangular), if needed.

    A left-handed cell is mirrored, too; no potential that is a function of distances minds.
    """
    if not np.triu(cell, 1).any() and (np.diag(cell) > 0.0).all():
        return None
    q, r = np.linalg.qr(cell.T)
    turn: Matrix = q * np.where(np.diag(r) < 0.0, -1.0, 1.0)
    return turn


def _turned(asked: Question, turn: Matrix | None) -> Question:
    """A configuration with a along x and b in the xy plane."""
    if turn is None:
        return asked
    return Question(asked.positions @ turn, np.tril(asked.cell @ turn))


def _wrapped(job: Evaluate) -> tuple[Question, int]:
    """A job's configuration with every atom in the cell, and how many cells one was outside."""
    shift = np.floor(job.positions @ np.linalg.inv(job.cell)) * np.asarray(job.pbc)
    return Question(job.positions - shift @ job.cell, job.cell), int(np.abs(shift).max(initial=0.0))
