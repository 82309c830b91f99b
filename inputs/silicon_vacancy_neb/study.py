"""The barrier of a vacancy's step in each of the case's potentials, each on its own relaxed path.

    python study.py run

For each arm, i-PI brings both ends to rest (quench.xml), relaxes the band between them (input.xml,
from a straight line), and then asks for the forces along its first half.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crystal import crystal_with_step, write_images
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mixserver.cli.study import study_command
from mixserver.config import Case, Local
from mixserver.core.errors import ConfigError
from mixserver.core.units import BOHR
from mixserver.studies.arms import Arm, Kind, write_case
from mixserver.studies.md import run_segments
from mixserver.studies.plot import COLOURS, MARKERS, figure
from mixserver.studies.study import Outcome, Study, Task, TaskContext, Values
from mixserver.studies.table import Cell, Table

ARMS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "all-expensive": ("all-expensive", {}),
    "energy": ("energy", {}),
    "energy-no-loads": ("energy", {"mixing": {"dead_loads": "off"}}),
    "force": ("force", {}),
    "all-cheap": ("all-cheap", {}),
}
SIZES: dict[str, dict[str, Any]] = {
    "small": {"cells": 5, "images": 5, "core": 7.0, "blend": 3.0},
    "paper": {"cells": 10, "images": 9, "core": 4.0, "blend": 6.0},
}
"""Atoms are 8 cells³ - 1; Å. That of the paper has a buffer of 4 Å, which needs forces only."""
POINTS = 9
"""Where forces are asked for, between the first image and the middle one."""
INIT, IMAGES = "atoms.xyz", "images.xyz"
STATIC = """<simulation verbosity='low'>
  <output prefix='simulation'>
    <trajectory filename='for' stride='1'> forces{ev/ang} </trajectory>
  </output>
  <total_steps> 1 </total_steps>
  <ffsocket name='mixserver' mode='unix' pbc='false'>
    <address> silicon_vacancy_neb </address>
  </ffsocket>
  <system>
    <initialize nbeads='POINTS'> <file mode='xyz'> images.xyz </file> </initialize>
    <forces> <force forcefield='mixserver'/> </forces>
    <motion mode='dummy'/>
  </system>
</simulation>
"""

RELAXED = 0.01
"""eV/Å that atoms of a relaxed end may feel."""

Images = NDArray[np.float64]
"""(images, atoms, 3) Å."""


def plan(size: str) -> Sequence[Task]:
    """One task of each arm."""
    return [Task(name, {"arm": name, **SIZES[size]}) for name in ARMS]


@dataclass(frozen=True, slots=True)
class Band:
    """Writes and runs the cases of a task."""

    context: TaskContext
    start: Images
    """The path before it is relaxed."""
    seeds: list[int]

    @property
    def by_force(self) -> bool:
        """Whether no energy belongs to the forces."""
        return self.context.task.parameters["arm"] == "force"

    def case(self, name: str, text: str, values: Mapping[str, str]) -> Case:
        """The case of one of the runs."""
        base, workers = self.context.base, self.context.workers
        return case_of(
            self.context.task, self.seeds, base, workers, self.context.folder / name, text, values
        )

    async def ends(self) -> Images:
        """Both ends, relaxed."""
        folder = self.begin("ends")
        for name, image in (("start.xyz", self.start[:1]), ("end.xyz", self.start[-1:])):
            write_images(folder / name, image, self.cells)
        case = self.case("ends", read(self.context.base, "quench.xml"), {})
        runs = await run_segments(self.context, case, share=(0.0, 0.3))
        return positions(runs[-1])

    async def band(self, ends: Images) -> tuple[Images, NDArray[np.float64], int]:
        """The relaxed images, their energies (images,) eV, and the steps that it took."""
        images = np.linspace(ends[0], ends[1], len(self.start))
        folder = self.begin("band")
        write_images(folder / IMAGES, images, self.cells)
        text = read(self.context.base, "input.xml")
        text = re.sub(r"nbeads='\d+'", f"nbeads='{len(images)}'", text)
        case = self.case("band", text, {"file": IMAGES})
        done = (await run_segments(self.context, case, share=(0.3, 0.9)))[-1]
        printed = np.loadtxt(done / "simulation.out", ndmin=2)[-1]
        return positions(done), printed[1:], int(printed[0])

    async def work(self, images: Images) -> float:
        """Done against the forces from the first image to the middle one, eV."""
        pieces = np.linalg.norm(np.diff(images, axis=0), axis=(1, 2))
        at = np.concatenate([[0.0], np.cumsum(pieces)])
        curve = CubicSpline(at, images)
        where = np.linspace(0.0, at[len(images) // 2], POINTS)
        folder = self.begin("work")
        write_images(folder / IMAGES, curve(where), self.cells)
        case = self.case("work", STATIC.replace("POINTS", str(POINTS)), {})
        done = (await run_segments(self.context, case, share=(0.9, 1.0)))[-1]
        forces = [read_images(done / f"simulation.for_{bead}.xyz")[0] for bead in range(POINTS)]
        left = float(np.linalg.norm(forces[0], axis=1).max())
        if left > RELAXED:
            raise ConfigError(
                f"an atom of the first image still feels {left:.3g} eV/Å, more than {RELAXED:g}; "
                "give quench.xml more steps"
            )
        slopes = [-float(np.vdot(*pair)) for pair in zip(forces, curve(where, 1), strict=True)]
        return float(CubicSpline(where, slopes).integrate(where[0], where[-1]))

    @property
    def cells(self) -> int:
        """Cubic cells along each edge."""
        return int(self.context.task.parameters["cells"])

    def begin(self, name: str) -> Path:
        """The folder of one of the runs."""
        folder = self.context.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def case_of(
    task: Task,
    seeds: list[int],
    base: Case,
    workers: tuple[Local, ...],
    folder: Path,
    text: str,
    values: Mapping[str, str],
) -> Case:
    """One case of a task, with the atoms halfway as its structure."""
    wanted = task.parameters
    kind, more = ARMS[wanted["arm"]]
    changes = {
        "upstream": {"structure": INIT},
        "region": {
            "core_radius": wanted["core"],
            "blend_width": wanted["blend"],
            "seeds": {"kind": "atoms", "indices": seeds},
        },
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    halfway, _, _ = crystal_with_step(wanted["cells"], wanted["images"])
    write_images(folder / INIT, [halfway], wanted["cells"])
    return write_case(
        folder, base, Arm(kind, task.name, changes), workers, values, text=text.encode()
    )


def cases(size: str, base: Case, workers: tuple[Local, ...], folder: Path) -> Sequence[Case]:
    """The band of every arm."""
    found = []
    for task in plan(size):
        wanted = task.parameters
        _, path, seeds = crystal_with_step(wanted["cells"], wanted["images"])
        (folder / task.name).mkdir(parents=True)
        write_images(folder / task.name / IMAGES, path, wanted["cells"])
        text = re.sub(r"nbeads='\d+'", f"nbeads='{len(path)}'", read(base, "input.xml"))
        found.append(
            case_of(task, seeds, base, workers, folder / task.name, text, {"file": IMAGES})
        )
    return found


async def run(context: TaskContext) -> Values:
    """The barrier in one potential."""
    wanted = context.task.parameters
    _, path, seeds = crystal_with_step(wanted["cells"], wanted["images"])
    band = Band(context, np.array(path), seeds)
    images, energies, steps = await band.band(await band.ends())
    work = await band.work(images)
    pieces = np.linalg.norm(np.diff(images, axis=0), axis=(1, 2))
    middle = energies[len(images) // 2]
    return {
        "barrier": work if band.by_force else float(middle - energies[0]),
        "back": None if band.by_force else float(middle - energies[-1]),
        "work": work,
        "steps": steps,
        "path": [0.0, *np.cumsum(pieces).tolist()],
        "energies": None if band.by_force else (energies - energies[0]).tolist(),
    }


def analyse(found: Mapping[str, Values], folder: Path) -> Outcome:
    """Barriers, and the bands that they are of."""
    mace = found.get("all-expensive")
    rows: list[list[Cell]] = []
    for name, one in found.items():
        apart = None if mace is None else 1000.0 * (one["barrier"] - mace["barrier"])
        numbers = [one[key] for key in ("barrier", "back", "work")]
        texts = ["" if number is None else f"{number:.5f}" for number in numbers]
        shown = "" if apart is None or name == "all-expensive" else f"{apart:+.2f}"
        rows.append([name, *texts, shown, one["steps"]])
    table = Table(
        "Barrier of the step",
        ["arm", "barrier (eV)", "back (eV)", "work (eV)", "minus all-expensive (meV)", "steps"],
        rows,
    )
    with figure(folder / "barrier.png") as (axes,):
        for number, (name, one) in enumerate(found.items()):
            kind = ARMS[name][0] if name in {"all-expensive", "energy", "force"} else "other"
            kind = name if name == "all-cheap" else kind
            colour, marker = COLOURS[kind], MARKERS[kind]
            label = f"{name}: {1000.0 * one['barrier']:.1f} meV"
            at = np.array(one["path"])
            if one["energies"] is None:
                middle = at[len(at) // 2]
                axes.plot(
                    middle,
                    1000.0 * one["work"],
                    marker,
                    color=colour,
                    label=label,
                    ms=9,
                    mfc="none",
                )
                continue
            energies = 1000.0 * np.array(one["energies"])
            fine = np.linspace(0.0, at[-1], 200)
            curve = CubicSpline(at, energies, bc_type="clamped")  # both ends are minima
            axes.plot(fine, curve(fine), color=colour, lw=1.0, zorder=-number)
            large = {"ms": 9, "mfc": "none"} if name == "all-expensive" else {"ms": 5}
            axes.plot(at, energies, marker, color=colour, label=label, **large)
        axes.set(xlabel="length of the path (Å)", ylabel="energy (meV)")
    tolerance = "The tolerance of the bands, 2 meV/Å, leaves 0.1 meV."
    return Outcome([table], ["barrier.png"], [tolerance])


def positions(folder: Path) -> Images:
    """Where a run left the beads of all its systems, one after the other."""
    found = []
    for node in ET.parse(folder / "RESTART").getroot().iterfind("system/beads/q"):  # noqa: S314
        numbers = np.array((node.text or "").strip(" []\n").split(","), dtype=float)
        beads = int(re.findall(r"\d+", node.attrib["shape"])[0])
        found.append(numbers.reshape(beads, -1, 3) * BOHR)
    return np.concatenate(found)


def read_images(file: Path) -> Images:
    """Read frames in i-PI's xyz format."""
    rows = file.read_text(encoding="utf-8").splitlines()
    size = int(rows[0]) + 2
    frames = [rows[at + 2 : at + size] for at in range(0, len(rows), size)]
    return np.array([[row.split()[1:] for row in frame] for frame in frames], dtype=float)


def read(base: Case, name: str) -> str:
    """An input for i-PI of this case."""
    return (base.folder / name).read_text(encoding="utf-8")


STUDY = Study(
    "The barrier of a vacancy's step in silicon, by a nudged elastic band.",
    Path(__file__),
    plan,
    run,
    analyse,
    cases,
)

if __name__ == "__main__":
    study_command(STUDY)()
