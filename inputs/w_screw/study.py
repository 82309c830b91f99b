"""A screw dislocation in tungsten: its core, and the stress that moves it.

    python study.py run [--size small|paper]
    python study.py status
    python study.py analyse

Two 1/2<111> screw dislocations of opposite Burgers vectors in a periodic cell, in four arms with
the same engine: relaxed with easy and with hard cores, then sheared in steps until they move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.optimize import FIRE
from dipole import Finder, burgers, dipole
from maps import draw_maps

from mixserver.ase import MixedCalculator
from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.core.errors import ConfigError
from mixserver.studies.arms import KINDS, Arm, write_case
from mixserver.studies.study import Outcome, Stopped, Study, Task, TaskContext, Values
from mixserver.studies.table import Table

ARMS = (Arm("all-expensive"), Arm("energy"), Arm("force"), Arm("all-cheap"))
REPEATS = {"small": (1, 6, 10), "paper": (1, 16, 28)}
"""Of the cell of six atoms, along the line, y and z."""
SHAKEN = 0.05
"""Å, the width of random displacements before a relaxation, the same in all arms: a symmetric core
may be a saddle point, on which an undisturbed relaxation comes to rest."""
LARGEST_FORCE = 0.005
"""eV/Å, at which a structure counts as relaxed."""
MOST_STEPS = 400
"""Of a relaxation."""
COARSE, FINE = 0.4, 0.1
"""GPa, about, by which the stress grows from relaxation to relaxation."""
SHEAR_MODULUS = 160.0
"""GPa, about; only the size of the steps depends on it, stresses are measured."""
HIGHEST = 6.0
"""GPa, at which the search for the stress that moves the dislocations ends."""
GPA = 160.21766
"""In 1 eV/Å³."""
LATTICE = "lattice"
"""The lattice constant in the structure's file, Å: of the expensive model at 0 K."""


def plan(size: str) -> list[Task]:
    """Two tasks for each arm."""
    common = {"repeats": list(REPEATS[size]), "fmax": LARGEST_FORCE, "shaken": SHAKEN}
    shear = {**common, "coarse": COARSE, "fine": FINE}
    return [Task(f"core-{arm.label}", {"arm": arm.label, **common}) for arm in ARMS] + [
        Task(f"shear-{arm.label}", {"arm": arm.label, **shear}) for arm in ARMS
    ]


def lattice_of(base: Case) -> float:
    """The lattice constant that belongs to the case's structure.

    Raises:
        ConfigError: the structure's file does not say it.
    """
    atoms = read(base.structure)
    try:
        return float(atoms.info[LATTICE])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{base.structure} must have the lattice constant in its second line, as "
            f"{LATTICE}=3.18, but has not; write it with python dipole.py LATTICE"
        ) from error


@dataclass(frozen=True, slots=True)
class Cell:
    """A dipole, what finds its dislocations, and the atoms around them."""

    atoms: Atoms
    finder: Finder
    seeds: list[int]


def cell_of(lattice: float, repeats: Sequence[int], *, hard: bool = False) -> Cell:
    """The dipole of a task; its seeds are the atoms around easy and hard places, in both cells."""
    sizes = (repeats[0], repeats[1], repeats[2])
    both = [dipole("W", lattice, sizes, hard=kind) for kind in (False, True)]
    finder = Finder(both[0].perfect, lattice)
    seeds: set[int] = set()
    for one in both:
        charges = finder.charges(one.atoms.positions, tilt_of(one.atoms))
        for triangle in np.flatnonzero(charges.any(axis=1)):
            seeds |= set(finder.layers[finder.triangles[triangle]].ravel().tolist())
    atoms = both[hard].atoms
    atoms.rattle(SHAKEN, seed=1)
    return Cell(atoms, finder, sorted(seeds))


def tilt_of(atoms: Atoms) -> np.ndarray:
    """The x of the last two vectors of the cell, Å."""
    return np.array(atoms.cell)[1:, 0]


def arm_case(base: Case, arm: Arm, workers: tuple[Local, ...], folder: Path, cell: Cell) -> Case:
    """The case of an arm, for a start of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    start = folder / "start.xyz"
    write(start, cell.atoms, format="extxyz")
    changes = {
        "upstream": {"structure": str(start.resolve())},
        "region": {"seeds": {"kind": "atoms", "indices": cell.seeds}},
    }
    own = Arm(arm.kind, arm.name, {**arm.changes, **changes})
    return write_case(folder, base, own, workers, {"file": start.name})


def cases(size: str, base: Case, workers: tuple[Local, ...], folder: Path) -> list[Case]:
    """One case of each arm, to be checked."""
    cell = cell_of(lattice_of(base), REPEATS[size])
    return [arm_case(base, arm, workers, folder / arm.label, cell) for arm in ARMS]


def relaxed(atoms: Atoms, look: Callable[[int], None]) -> int:
    """Relax the atoms, and say in how many steps.

    Raises:
        ConfigError: it takes too many.
    """
    search = FIRE(atoms, logfile=None, maxstep=0.1)
    for _ in search.irun(fmax=LARGEST_FORCE, steps=MOST_STEPS):
        look(search.get_number_of_steps())
    if not search.converged(atoms.get_forces().ravel()):
        raise ConfigError(
            f"after {MOST_STEPS} steps the largest force is still "
            f"{np.linalg.norm(atoms.get_forces(), axis=1).max():.3f} eV/Å, and not "
            f"{LARGEST_FORCE} eV/Å: the models may not describe this structure"
        )
    return int(search.get_number_of_steps())


def centres(cell: Cell, atoms: Atoms) -> list[list[float]]:
    """Places (y and z) of the dislocations with +b and -b, means over the line.

    Raises:
        ConfigError: there are no two, in some layer.
    """
    found = cell.finder.cores(atoms.positions, tilt_of(atoms))
    if not np.isfinite(found).all():
        raise ConfigError(
            "there are no longer two dislocations of opposite Burgers vectors in every layer of "
            "the cell: they annihilated, or their cores dissolved"
        )
    means: list[list[float]] = found.mean(axis=1).tolist()
    return means


def core(context: TaskContext, arm: Arm, lattice: float) -> Values:
    """Easy and hard cores, relaxed."""
    repeats = context.task.parameters["repeats"]
    found: Values = {"cell": [lattice, repeats]}
    for at, hard in enumerate((False, True)):
        cell = cell_of(lattice, repeats, hard=hard)
        kind = "hard" if hard else "easy"
        case = arm_case(context.base, arm, context.workers, context.folder / kind, cell)
        with MixedCalculator(case) as calculator:
            atoms = cell.atoms
            atoms.calc = calculator

            def look(step: int, at: int = at) -> None:
                if context.stop.is_set():
                    raise Stopped
                context.report(at + min(1.0, step / 100.0), 2.0)

            steps = relaxed(atoms, look)
            found[kind] = {
                "steps": steps,
                "energy": None if arm.kind == "force" else atoms.get_potential_energy(),
                "stress": (atoms.get_stress() * GPA).tolist(),
                "displacements": cell.finder.displacements(atoms.positions).tolist(),
                "tilt": tilt_of(atoms).tolist(),
                "centres": centres(cell, atoms),
            }
    return found


def shear(context: TaskContext, arm: Arm, lattice: float) -> Values:
    """The cell sheared in steps, relaxed after each, until a dislocation is elsewhere."""
    cell = cell_of(lattice, context.task.parameters["repeats"])
    case = arm_case(context.base, arm, context.workers, context.folder / "case", cell)
    atoms = cell.atoms
    curve: list[list[float]] = []

    def look(_: int) -> None:
        if context.stop.is_set():
            raise Stopped

    with MixedCalculator(case) as calculator:
        atoms.calc = calculator
        relaxed(atoms, look)
        start = np.array(centres(cell, atoms))
        step = COARSE
        stable = (atoms.cell.copy(), atoms.positions.copy())
        last = stress_of(atoms)
        curve.append([0.0, last, 0.0])
        total = 0.0
        moved = float("nan")
        while abs(last) < HIGHEST:
            sheared(atoms, step / SHEAR_MODULUS)
            relaxed(atoms, look)
            try:
                glide = float(np.abs(np.array(centres(cell, atoms)) - start).max())
            except ConfigError:
                glide = float("inf")
            now = stress_of(atoms)
            context.report(min(abs(now), 3.0), 3.2)
            if glide < 0.3 * burgers(lattice):
                total, last = total + step, now
                stable = (atoms.cell.copy(), atoms.positions.copy())
                curve.append([total, now, glide])
                continue
            moved = glide
            if step == FINE:
                break
            step = FINE
            atoms.set_cell(stable[0])
            atoms.positions[:] = stable[1]
    return {
        "stress": abs(last - curve[0][1]),
        "step": step,
        "moved": moved if np.isfinite(moved) else -1.0,
        "curve": curve,
        "largest": HIGHEST,
        "found": bool(abs(last) < HIGHEST),
    }


def stress_of(atoms: Atoms) -> float:
    """The stress that drives the dislocations along y, GPa."""
    return float(atoms.get_stress()[4] * GPA)


def sheared(atoms: Atoms, strain: float) -> None:
    """Shear cell and atoms: displacements along the line, in proportion to z."""
    cell = np.array(atoms.cell)
    atoms.positions[:, 0] += strain * atoms.positions[:, 2]
    cell[:, 0] += strain * cell[:, 2]
    atoms.set_cell(cell)


async def run(context: TaskContext) -> Values:
    """Make one task's result."""
    what, _, label = context.task.name.partition("-")
    (arm,) = (one for one in ARMS if one.label == label)
    work = {"core": core, "shear": shear}[what]
    return await asyncio.to_thread(work, context, arm, lattice_of(context.base))


def analyse(results: Mapping[str, Values], folder: Path) -> Outcome:
    """The table, and a map of each arm's core."""
    cores = {
        arm.label: results[f"core-{arm.label}"] for arm in ARMS if f"core-{arm.label}" in results
    }
    truth = cores.get("all-expensive")
    rows: list[list[Any]] = []
    for arm in ARMS:
        here = cores.get(arm.label)
        shears = results.get(f"shear-{arm.label}")
        rows.append([KINDS[arm.kind], *core_cells(here, truth), shear_cell(shears)])
    columns = [
        "arm",
        "hard minus easy core, meV/b",
        "rms difference of displacements, Å",
        "largest, Å",
        "stress that moves it, GPa",
    ]
    figures = []
    if cores:
        cell = cell_of(*next(iter(cores.values()))["cell"])
        named = {KINDS_OF[label]: one for label, one in cores.items()}
        draw_maps(folder / "cores.png", cell.finder, named)
        figures.append("cores.png")
    remarks = [
        "Displacements are those along the line, of all atoms, against all atoms expensive, both "
        "without their mean."
    ]
    return Outcome([Table("Screw dislocations in tungsten", columns, rows)], figures, remarks)


KINDS_OF = {arm.label: KINDS[arm.kind] for arm in ARMS}


def core_cells(here: Values | None, truth: Values | None) -> list[float | None]:
    """Energy of the hard core, and how far the easy one differs from the expensive model's."""
    if here is None:
        return [None, None, None]
    energy = None
    if here["easy"]["energy"] is not None:
        moved = here["hard"]["energy"] - here["easy"]["energy"]
        layers = len(here["easy"]["displacements"][0])
        energy = float(round(1000.0 * moved / 2.0 / layers, 2))
    if truth is None:
        return [energy, None, None]
    apart = np.array(here["easy"]["displacements"]) - np.array(truth["easy"]["displacements"])
    apart -= apart.mean()
    return [energy, float(np.sqrt((apart**2).mean())), float(np.abs(apart).max())]


def shear_cell(shears: Values | None) -> str | None:
    """The stress, with the step in which it was found."""
    if shears is None:
        return None
    if not shears["found"]:
        return f"more than {shears['largest']:g}"
    return f"{shears['stress']:.2f} to {shears['stress'] + shears['step']:.2f}"


STUDY = Study(
    title=__doc__ or "",
    script=Path(__file__),
    plan=plan,
    run=run,
    analyse=analyse,
    cases=cases,
)

if __name__ == "__main__":
    study_command(STUDY)()
