"""The requests that a stock i-PI client gets for a job: its configuration, and tests before it.

Knows the quirks of clients and no sockets. Positions and cells are rotated and wrapped here, and
replies rotated back.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from mixserver.core.arrays import Matrix
from mixserver.core.cell import standard_form
from mixserver.dispatch.ipi_clients.probe import (
    Configuration,
    Probe,
    image_dependence,
    missing_atoms,
    surplus_atoms,
    unread_cell_numbers,
    wrong_order,
)
from mixserver.wire.ipi import Reply
from mixserver.wire.ipi_server import ipi_virial
from mixserver.wire.worker import Blame, Evaluate, ModelCard, Role

Geometry: TypeAlias = Literal["as_sent", "standard"]

_FAR: Final = 4
"""How many cells away an atom counts as far."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Settings of all clients of one address."""

    role: Role
    card: ModelCard
    """Their model card; a stock client cannot send one."""
    geometry: Geometry = "standard"
    """"as_sent": the cell and all nine numbers of the virial go through unchanged. "standard": cell
    and atoms are rotated so that a is along x and b in the xy plane, and replies rotated back."""
    test_count: bool = True
    """Test whether a client has all atoms, where forces are exactly zero."""
    test_order: bool = False
    """Test whether a client has the elements in the right order, before its first reply counts."""
    patience_s: float = 5.0
    """Seconds that a client may stop in the middle of a message."""


@dataclass(frozen=True, slots=True)
class UnsuitableClient:
    """Why a client must not serve."""

    blame: Blame
    """"input" if no other client could serve either."""
    why: str


class RequestPlanner:
    """Plans the requests of one client; remembers the outcome of its tests.

    Args:
        settings: of its address.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.own_atoms = False
        """True if it has a structure of its own (LAMMPS, ASE): it did not need INIT, as i-PI's own
        drivers do, which evaluate any atoms that they are sent."""
        self._settings = settings
        self._atoms = 0
        self._tested = False
        self._reads_any_cell = False
        self._far = 0

    def requests(self, job: Evaluate) -> Generator[Configuration, Reply, Reply | UnsuitableClient]:
        """The requests for a job, one after the other.

        Returns:
            The reply to the job, or why the client must not serve.
        """
        self._atoms = len(job.positions)
        # A left-handed cell is mirrored, too. Energies are functions of distances alone.
        _, turn = standard_form(job.cell)
        sent = Configuration(job.positions, job.cell)
        if self._settings.geometry == "standard":
            sent = _rotated(sent, turn)
        elif self.own_atoms:
            near, far = _wrapped(job)
            self._far = max(self._far, far)
            if turn is not None and not self._reads_any_cell:
                if why := (yield from unread_cell_numbers(_rotated(near, turn))):
                    return UnsuitableClient("input", why)
                self._reads_any_cell = True
            elif not self._tested and far > 1:
                # LAMMPS finds the images of atoms next to their previous positions, but at first
                # its results are wrong, or missing, for atoms that are not near its box.
                yield near
        reply = yield sent
        if not self._tested:
            if why := (yield from self._test(sent, job, reply)):
                return UnsuitableClient("worker", why)
            wrapped = self._settings.geometry == "standard" and self._settings.test_order
            if wrapped and (why := (yield from image_dependence(sent, job.pbc, reply))):
                return UnsuitableClient("input", why)
            self._tested = True
        if self._settings.geometry == "as_sent":
            return reply
        forces, virial = reply.forces, ipi_virial(reply.virial)
        if turn is not None:
            forces, virial = forces @ turn.T, turn @ virial @ turn.T
        return Reply(reply.energy, forces, virial, reply.extras)

    def _test(self, sent: Configuration, job: Evaluate, first: Reply) -> Probe:
        """Test whether the client has the atoms that it is sent."""
        why = ""
        if self._settings.test_count and self.own_atoms:
            why = yield from missing_atoms(sent, job.numbers, first)
        if not why and self._settings.test_order and self.own_atoms:
            why = yield from surplus_atoms(sent, first)
        if not why and self._settings.test_order:
            why = yield from wrong_order(sent, job.numbers, first)
        return why

    @property
    def hint(self) -> str:
        """Why a client that disconnected may have died; begins with a blank, or is empty."""
        if self.own_atoms and self._atoms and not self._tested:
            return (
                f" (in its first job, of {self._atoms} atoms: see its output; its structure must "
                "have as many)"
            )
        if self._far < _FAR:
            return ""
        return (
            f" (an atom is {self._far} cells away from where the cell begins, and LAMMPS' fix ipi "
            "ends at large jumps: see its output, and set workers.clients_geometry = "
            '"standard")'
        )


def _rotated(sent: Configuration, turn: Matrix | None) -> Configuration:
    """A configuration with a along x and b in the xy plane."""
    if turn is None:
        return sent
    return Configuration(sent.positions @ turn, np.tril(sent.cell @ turn))


def _wrapped(job: Evaluate) -> tuple[Configuration, int]:
    """A job's configuration with every atom in the cell, and how many cells one was outside."""
    shift = np.floor(job.positions @ np.linalg.inv(job.cell)) * np.asarray(job.pbc)
    return Configuration(job.positions - shift @ job.cell, job.cell), int(
        np.abs(shift).max(initial=0.0)
    )
