"""One LAMMPS instance with one set of atoms, evaluated repeatedly.

The fast loop writes positions into LAMMPS's own array, runs ``run 1 pre no post no`` (LAMMPS
rebuilds its neighbour lists when an atom has moved by half the skin) and reads the results from
LAMMPS's memory. A changed cell, and everything else that needs a full set-up, goes through
``run 0``. `weighting.weighted_instance` adds site weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixserver.core.arrays import Numbers, Vectors
from mixserver.core.errors import BadInput
from mixserver.core.strain import stress_from_voigt
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.lammps.box import box_for
from mixserver_worker.engines.lammps.criteria import CriterionComputes
from mixserver_worker.engines.lammps.fast_loop_test import sees_new_positions
from mixserver_worker.engines.lammps.library import LammpsAbort, LammpsError, LammpsLibrary
from mixserver_worker.engines.lammps.mpi import RankJob, Ranks
from mixserver_worker.engines.lammps.setup import PotentialSetup
from mixserver_worker.engines.neighbours import neighbour_list

_LARGE_STEP: Final = 0.5
"""Å. Atoms move less in one step of dynamics; after a larger move, overlaps are checked."""
_OVERLAP: Final = 0.05
"""Å. Closer atoms overlap; many potentials silently ignore such a pair."""
_VOIGT_OF_LAMMPS: Final = [0, 1, 2, 5, 4, 3]
"""LAMMPS orders components xx yy zz xy xz yz."""


class LostAtoms(LammpsError):
    """The instance no longer holds all its atoms; a new one is needed."""


class LammpsInstance:
    """LAMMPS with atoms in it.

    Args:
        setup: potential and switches.
        job: the first evaluation, which defines atoms and cell.
        ranks: all of them construct the instance and call `evaluate` together.
        log: LAMMPS log file, "none" for none.
        types: (n,) atom types; None takes those of the elements.
        test_fast_loop: for one evaluation the test is not worth its seven; without it, an
            accelerated instance makes a full set-up each time.

    Raises:
        BadInput: atoms overlap.
        LammpsError: LAMMPS refused.
        WorkerFault: a file of the potential has changed.
    """

    weighted: Final = False

    def __init__(
        self,
        setup: PotentialSetup,
        job: RankJob,
        ranks: Ranks,
        log: str = "none",
        types: NDArray[np.int32] | None = None,
        *,
        test_fast_loop: bool = True,
    ) -> None:
        self.numbers: Numbers = job.numbers.copy()
        self.pbc = job.pbc
        self._setup, self._ranks = setup, ranks
        self.fast_loop = True
        """False on devices where LAMMPS misses new positions: each evaluation is a set-up."""
        check_overlap(job)
        setup.check_files()
        self._box = box_for(job.positions, job.cell, job.pbc)
        self.library = LammpsLibrary(["-log", log, *setup.arguments], ranks.comm)
        self.criteria = CriterionComputes(self.library)
        try:
            inside = self._box.inward(job.positions)
            target = self._box.wrapped(inside)
            self._offset: Vectors = target - inside
            self._create(target, types_by_element(setup, self.numbers) if types is None else types)
            self._fresh = True
            if setup.accelerated:
                self.fast_loop = test_fast_loop and sees_new_positions(
                    self._forces, job, setup.skin, ranks
                )
        except BaseException:
            self.library.close()
            raise

    def close(self) -> None:
        """End LAMMPS."""
        self.library.close()

    def evaluate(self, job: RankJob) -> EngineResult:
        """Evaluate positions of the same atoms; the result is complete on rank 0 only.

        Raises:
            BadInput: atoms overlap, or LAMMPS refuses the criterion.
            LostAtoms: a new instance is needed.
            LammpsError: LAMMPS refused.
        """
        name, new = self.criteria.define(job.criterion)
        computes = self._computes(job) + ([name] if name else [])
        try:
            self._advance(job, computes, full=new or self._fresh or not self.fast_loop)
            self._fresh = False
            return self._results(job, name)
        except LammpsAbort:
            raise
        except LammpsError as error:
            if not new:
                raise
            self.criteria.remove(job.criterion)
            self.library.command("run 0 post no")  # raises if the criterion was not the cause
            raise BadInput(f"LAMMPS refuses the criterion {job.criterion!r}: {error}") from error

    def _computes(self, job: RankJob) -> list[str]:
        """Computes that need this evaluation's tallies."""
        per_atom = ["mx_e"] if job.energies and self._setup.site_energies else []
        return ["thermo_pe", "mx_v", *per_atom]

    def _create(self, target: Vectors, types: NDArray[np.int32]) -> None:
        command = self.library.command
        setup = self._setup
        for text in ("units metal", "atom_style atomic", "newton on", *setup.before_box):
            command(text)
        # Neighbouring atoms then have rows close together, in whatever order they came. Kokkos
        # sorts on its device.
        command("atom_modify map array sort " + ("0 0" if setup.accelerated else "1000 0"))
        command("boundary " + " ".join("p" if axis else "f" for axis in self.pbc))
        command("box tilt large")
        command(self._box.region_command())
        command(f"create_box {len(setup.numbers)} mx_box")
        command("mass * 1.0")  # nothing moves here, but LAMMPS requires masses
        self.library.create_atoms(types, target)
        if self.library.atoms != len(target):
            raise LostAtoms(f"LAMMPS accepted {self.library.atoms} of {len(target)} atoms")
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
            # A fix on the host makes Kokkos fetch the positions that are written there.
            command("fix mx_host all external pf/array 1")

    def _advance(self, job: RankJob, computes: Sequence[str], *, full: bool) -> None:
        """Pass the new positions to LAMMPS and have it evaluate them."""
        library, ranks, box = self.library, self._ranks, self._box
        inside = box.inward(job.positions)
        new_box = not np.array_equal(job.cell, box.cell) or not box.holds(inside)
        rows = library.atom_indices()
        if ranks.any(int(library.atoms) != len(inside) or self._lacks_rows(rows)):
            raise LostAtoms("LAMMPS lost atoms")
        x = library.vectors("x")
        if not new_box:
            in_order = len(rows) == len(inside) and np.array_equal(rows, np.arange(len(rows)))
            mine = inside + self._offset if in_order else (inside + self._offset)[rows]
            moved = _largest(mine - x)
            if moved > 0.25 * box.narrowest:
                shift = box.shift_to_nearest(mine, x)
                mine += shift
                self._offset[rows] += shift
                moved = _largest(mine - x)
            moved = ranks.largest(moved)
            if moved > _LARGE_STEP:
                check_overlap(job)
                # Ranks pass atoms to neighbouring ranks only; change_box sends them anywhere.
                new_box = ranks.size > 1
        if new_box:
            check_overlap(job)
            self._box = box = box_for(job.positions, job.cell, job.pbc)
            inside = box.inward(job.positions)
            target = box.wrapped(inside)
            self._offset = target - inside
            for change in box.change_commands()[: 1 if ranks.size == 1 else 2]:
                # LAMMPS wraps atoms into the intermediate boxes, so each time they are reset.
                library.command(change)
                library.vectors("x")[:] = target[library.atom_indices()]
        else:
            x[:] = mine
        set_up = full or new_box
        if set_up:
            # Neighbour lists of computes are built once per time step, and run 0 takes no step.
            library.command(f"reset_timestep {library.step + 1}")
        library.request_tallies(computes, ahead=0 if set_up else 1)
        library.command("run 0 post no" if set_up else "run 1 pre no post no")

    def _results(self, job: RankJob, criterion: str) -> EngineResult:
        library, n = self.library, len(job.positions)
        rows = library.atom_indices()
        if self._ranks.any(self._lacks_rows(rows)):
            raise LostAtoms("LAMMPS lost atoms")
        if criterion and (width := library.columns(criterion)):
            raise LammpsError(f"it returns {width} numbers per atom instead of one")
        bar = library.vector("mx_v", 6)
        scale = self._box.volume / library.number("nktv2p")
        columns = [library.vectors("f")]
        with_energies = job.energies and self._setup.site_energies
        if with_energies:
            columns.append(library.per_atom("mx_e"))
        if criterion:
            columns.append(library.per_atom(criterion))
        table = self._ranks.gather(rows, columns, n)
        return EngineResult(
            energy=library.scalar("thermo_pe"),
            forces=np.ascontiguousarray(self._box.outward(table[:, :3])),
            virial=self._box.virial_outward(stress_from_voigt((bar * scale)[_VOIGT_OF_LAMMPS])),
            energies=table[:, 3].copy() if with_energies else None,
            values=table[:, -1].copy() if criterion else None,
        )

    def _lacks_rows(self, rows: NDArray[np.int64]) -> bool:
        return self._ranks.size == 1 and len(rows) != len(self.numbers)

    def _forces(self, job: RankJob, *, full: bool) -> Vectors:
        """Evaluate once, in the fast loop or with a full set-up."""
        self._advance(job, ["thermo_pe", "mx_v"], full=full)
        return self._results(job, "").forces


def check_overlap(job: RankJob) -> None:
    """Check that no two atoms overlap.

    Raises:
        BadInput: two atoms do, with their indices.
    """
    found = neighbour_list(job.positions, job.cell, job.pbc, _OVERLAP)
    if len(found.first):
        raise BadInput(
            f"atoms {found.first[0]} and {found.second[0]} are {found.distance[0]:.1e} Å apart: "
            "look for duplicate atoms in the structure, or for a cell that is too small"
        )


def types_by_element(setup: PotentialSetup, numbers: Numbers) -> NDArray[np.int32]:
    """(n,) atom types, from 1, of atoms with these atomic numbers."""
    types = np.zeros(max(setup.numbers) + 1, np.int32)
    types[list(setup.numbers)] = np.arange(1, len(setup.numbers) + 1)
    return types[numbers]


def _largest(vectors: Vectors) -> float:
    return float(max(vectors.max(), -vectors.min())) if vectors.size else 0.0
