"""One LAMMPS instance that holds one set of atoms and is asked again and again.

The fast loop: positions are written into LAMMPS's own array, ``run 1 pre no post no`` evaluates
them (its neighbour lists are rebuilt when an atom has moved half the skin), results are read from
its memory. A changed cell, and whatever else needs a full set-up, goes through ``run 0``.
Knows boxes and atom types; knows no jobs, files or retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.engines.lammps_box import Box, box_for
from clients.engines.lammps_files import Seen
from clients.engines.lammps_library import LammpsAbort, LammpsError, Library
from clients.engines.lammps_mpi import Order, Ranks
from clients.engines.neighbours import pairs
from mixserver.arrays import Matrix, Numbers, Scalars, Vectors
from mixserver.errors import BadInput, WorkerFault

_JUMP = 0.5
"""Å. No atom moves so far in one step of dynamics: after it, overlaps are looked for."""
_TOUCHING = 0.05
"""Å. Closer atoms are on top of each other; many potentials ignore such a pair silently."""
_MOST_CRITERIA = 8
_VOIGT = np.array([[0, 3, 4], [3, 1, 5], [4, 5, 2]])
"""Where xx yy zz xy xz yz belong in a tensor."""


class LostAtoms(LammpsError):
    """The instance no longer holds all its atoms; a fresh one is needed."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Results, complete on rank 0 only."""

    energy: float
    forces: Vectors
    virial: Matrix
    energies: Scalars | None
    values: Scalars | None


@dataclass(frozen=True, slots=True)
class Setup:
    """What all instances of an engine have in common."""

    before_box: tuple[str, ...]
    after_box: tuple[str, ...]
    numbers: tuple[int, ...]
    """Atomic number of atom type 1, 2, ..."""
    arguments: tuple[str, ...]
    skin: float
    """Å."""
    site_energies: bool
    accelerated: bool
    """Whether command line switches ask for a device: then the fast loop must prove itself."""
    files: tuple[Seen, ...] = ()
    """What the fingerprint was taken of."""


class Instance:
    """LAMMPS with atoms in it.

    Args:
        setup: potential and switches.
        order: the first evaluation, which gives atoms and cell.
        ranks: who evaluates; all of them construct it and call `evaluate` together.
        log: LAMMPS log file, "none" for none.
        kinds: (n,) atom types; None takes those of the elements.

    Raises:
        BadInput: atoms on top of each other.
        LammpsError: LAMMPS refused.
        WorkerFault: a file of the potential is no longer what it was.
    """

    def __init__(
        self,
        setup: Setup,
        order: Order,
        ranks: Ranks,
        log: str = "none",
        kinds: NDArray[np.int32] | None = None,
    ) -> None:
        self.numbers: Numbers = order.numbers.copy()
        self.pbc = order.pbc
        self._setup, self._ranks = setup, ranks
        self._criteria: dict[str, str] = {}
        self._made = 0
        self._lean = True
        refuse_touching(order)
        _refuse_changes(setup)
        self._box = box_for(order.positions, order.cell, order.pbc)
        self._library = Library(["-log", log, *setup.arguments], ranks.comm)
        try:
            inside = self._box.inward(order.positions)
            target = self._box.wrapped(inside)
            self._offset: Vectors = target - inside
            self._create(target, _by_element(setup, self.numbers) if kinds is None else kinds)
            self._fresh = True
            if setup.accelerated:
                self._prove_fast_loop(order)
        except BaseException:
            self._library.close()
            raise

    @property
    def library(self) -> Library:
        """The LAMMPS inside."""
        return self._library

    @property
    def lean(self) -> bool:
        """Whether the fast loop is used: on some devices LAMMPS does not see new positions."""
        return self._lean

    def close(self) -> None:
        """End LAMMPS."""
        self._library.close()

    def evaluate(self, order: Order) -> Evaluated:
        """Evaluate positions of the same atoms.

        Raises:
            BadInput: atoms on top of each other, or a criterion LAMMPS refuses.
            LostAtoms: use a fresh instance.
            LammpsError: LAMMPS refused.
        """
        name, new = self._criterion(order.criterion)
        wanted = ["thermo_pe", "mx_v"]
        wanted += ["mx_e"] if order.energies and self._setup.site_energies else []
        wanted += [name] if name else []
        try:
            self._advance(order, wanted, full=new or self._fresh or not self._lean)
            self._fresh = False
            return self._results(order, name)
        except LammpsAbort:
            raise
        except LammpsError as error:
            if not new:
                raise
            self._library.command(f"uncompute {self._criteria.pop(order.criterion)}")
            self._library.command("run 0 post no")  # raises if it was not the criterion
            raise BadInput(f"LAMMPS refuses the criterion {order.criterion!r}: {error}") from error

    def _create(self, target: Vectors, kinds: NDArray[np.int32]) -> None:
        command = self._library.command
        setup, box = self._setup, self._box
        for text in ("units metal", "atom_style atomic", "newton on", *setup.before_box):
            command(text)
        command("atom_modify map array sort 0 0")  # keeps rows in order, so that views can be used
        command("boundary " + " ".join("p" if axis else "f" for axis in self.pbc))
        command("box tilt large")
        (x, y, z), edges = box.low, box.edges
        high = box.low + np.diag(edges)
        command(
            f"region mx_box prism {x:.17g} {high[0]:.17g} {y:.17g} {high[1]:.17g} {z:.17g} "
            f"{high[2]:.17g} {edges[1, 0]:.17g} {edges[2, 0]:.17g} {edges[2, 1]:.17g} units box"
        )
        command(f"create_box {len(setup.numbers)} mx_box")
        command("mass * 1.0")  # nothing moves here, but LAMMPS wants masses
        self._library.create_atoms(kinds, target)
        if self._library.atoms != len(target):
            raise LostAtoms(f"LAMMPS took {self._library.atoms} of {len(target)} atoms")
        for text in setup.after_box:
            command(text)
        command(f"neighbor {setup.skin!r} bin")
        command("neigh_modify every 1 delay 0 check yes")
        command("thermo_style custom step")
        command("thermo 0")
        command("timer off")
        command("compute mx_v all pressure NULL virial")
        if setup.site_energies:
            command("compute mx_e all pe/atom")
        if setup.accelerated:
            # A fix on the host makes Kokkos fetch the positions we write there.
            command("fix mx_host all external pf/array 1")

    def _advance(self, order: Order, wanted: Sequence[str], *, full: bool) -> None:
        """Give LAMMPS the new positions and have it evaluate them."""
        library, ranks, box = self._library, self._ranks, self._box
        inside = box.inward(order.positions)
        moved_box = not np.array_equal(order.cell, box.cell) or not box.holds(inside)
        rows = library.order()
        if ranks.any(int(library.atoms) != len(inside) or self._short(rows)):
            raise LostAtoms("LAMMPS lost atoms")
        x = library.vectors("x")
        if not moved_box:
            mine = inside + self._offset if self._ordered(rows) else (inside + self._offset)[rows]
            moved = _largest(mine - x)
            if moved > 0.25 * box.shortest:
                shift = box.nearest(mine, x)
                mine += shift
                self._offset[rows] += shift
                moved = _largest(mine - x)
            moved = ranks.largest(moved)
            if moved > _JUMP:
                refuse_touching(order)
                # Ranks hand atoms on to their neighbours only; change_box sends them anywhere.
                moved_box = ranks.size > 1
        if moved_box:
            refuse_touching(order)
            self._box = box = box_for(order.positions, order.cell, order.pbc)
            inside = box.inward(order.positions)
            target = box.wrapped(inside)
            self._offset = target - inside
            for change in _changes(box)[: 1 if ranks.size == 1 else 2]:
                # LAMMPS wraps atoms by the boxes in between, so they are put in place each time.
                library.command(change)
                library.vectors("x")[:] = target[library.order()]
        else:
            x[:] = mine
        setup = full or moved_box
        if setup:
            # Neighbour lists of computes are built once per time step, and run 0 takes no step.
            library.command(f"reset_timestep {library.step + 1}")
        library.announce(wanted, ahead=0 if setup else 1)
        library.command("run 0 post no" if setup else "run 1 pre no post no")

    def _results(self, order: Order, criterion: str) -> Evaluated:
        library, n = self._library, len(order.positions)
        rows = library.order()
        if self._ranks.any(self._short(rows)):
            raise LostAtoms("LAMMPS lost atoms")
        if criterion and (width := library.columns(criterion)):
            raise LammpsError(f"it gives {width} numbers per atom instead of one")
        bar = library.vector("mx_v", 6)
        virial = (bar * (self._box.volume / library.number("nktv2p")))[_VOIGT]
        columns = [library.vectors("f")]
        with_energies = order.energies and self._setup.site_energies
        if with_energies:
            columns.append(library.per_atom("mx_e"))
        if criterion:
            columns.append(library.per_atom(criterion))
        table = self._ranks.assemble(rows, columns, n)
        return Evaluated(
            energy=library.scalar("thermo_pe"),
            forces=np.ascontiguousarray(self._box.outward(table[:, :3])),
            virial=self._box.virial_outward(virial),
            energies=table[:, 3].copy() if with_energies else None,
            values=table[:, -1].copy() if criterion else None,
        )

    def _criterion(self, text: str) -> tuple[str, bool]:
        """ID of the compute for a criterion, and whether it was defined just now."""
        if not text:
            return "", False
        if text in self._criteria:
            return self._criteria[text], False
        if len(self._criteria) == _MOST_CRITERIA:
            self._library.command(f"uncompute {self._criteria.pop(next(iter(self._criteria)))}")
        self._made += 1
        name = f"mx_c{self._made}"
        try:
            self._library.command(f"compute {name} all {text}")
        except LammpsAbort:
            raise
        except LammpsError as error:
            raise BadInput(f"LAMMPS refuses the criterion {text!r}: {error}") from error
        self._criteria[text] = name
        return name, True

    def _short(self, rows: NDArray[np.int64]) -> bool:
        return self._ranks.size == 1 and len(rows) != len(self.numbers)

    def _ordered(self, rows: NDArray[np.int64]) -> bool:
        return len(rows) == len(self.numbers) and np.array_equal(rows, np.arange(len(rows)))

    def _prove_fast_loop(self, order: Order) -> None:
        """Move one atom in the fast loop and compare with a full set-up, once, on a device."""
        moved = order.positions.copy()
        moved[0] += 0.03
        probe = Order(order.stream, moved, order.numbers, order.cell, order.pbc, False, "")
        wanted = ["thermo_pe", "mx_v"]
        self._advance(order, wanted, full=True)
        self._advance(probe, wanted, full=False)
        fast = self._results(probe, "").forces
        self._advance(probe, wanted, full=True)
        true = self._results(probe, "").forces
        room = 1e-4 * max(1.0, _largest(true))
        self._lean = not self._ranks.any(self._ranks.rank == 0 and _largest(fast - true) > room)


def _refuse_changes(setup: Setup) -> None:
    """Raise if LAMMPS would now read something other than what the fingerprint says."""
    for file in setup.files:
        if words := file.changed():
            raise WorkerFault(
                f"{words} since this worker took the potential's fingerprint. Put back what it "
                "was, or end the run; workers that start now hold another model."
            )


def refuse_touching(order: Order) -> None:
    """Raise if two atoms are on top of each other.

    Raises:
        BadInput: which they are.
    """
    found = pairs(order.positions, order.cell, order.pbc, _TOUCHING)
    if len(found.first):
        raise BadInput(
            f"atoms {found.first[0]} and {found.second[0]} are {found.distance[0]:.1e} Å apart: "
            "look for atoms that are twice in the structure, or for a cell that is too small"
        )


def _by_element(setup: Setup, numbers: Numbers) -> NDArray[np.int32]:
    kinds = np.zeros(max(setup.numbers) + 1, np.int32)
    kinds[list(setup.numbers)] = np.arange(1, len(setup.numbers) + 1)
    return kinds[numbers]


def _changes(box: Box) -> list[str]:
    """Commands that make the box; the last changes nothing but sends atoms to their ranks."""
    high = box.low + np.diag(box.edges)
    parts = [
        f"{axis} final {box.low[k]:.17g} {high[k]:.17g}" for k, axis in enumerate(("x", "y", "z"))
    ]
    tilts = [
        f"{name} final {box.edges[row, column]:.17g}"
        for name, row, column in (("xy", 1, 0), ("xz", 2, 0), ("yz", 2, 1))
        if box.pbc[row] and box.pbc[column]
    ]
    return [
        f"change_box all {' '.join(parts + tilts)} units box",
        f"change_box all {parts[0]} units box",
    ]


def _largest(vectors: Vectors) -> float:
    return float(max(vectors.max(), -vectors.min())) if vectors.size else 0.0
