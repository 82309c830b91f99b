"""Reading and checking distill.toml and the structures it names, before any model runs.

Unknown keys, wrong types and contradictions are errors that name the remedy.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.io import write

from mixserver.analysis.bulk.primitive_cell import PrimitiveCell, find_primitive_cell
from mixserver.analysis.bulk.supercell import repeats_for_atoms
from mixserver.config.load import convert_toml, read_settings
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.structures import as_atoms, read_structure
from mixserver.distill.config.schema import Recipe
from mixserver.distill.config.validation import problems
from mixserver.distill.data.splits import split_structures
from mixserver.distill.data.user_structures import UserFrame, read_user_frames
from mixserver.geometry import neighbour_list
from mixserver.wire.descriptor import SnapDescriptor

_LARGE = 24
"""Number of atoms above which a cell may be a supercell."""


@dataclass(frozen=True, eq=False)
class DistillationProject:
    """One distillation: a recipe, its location, and its structures."""

    file: Path
    """The distill.toml itself; paths in it are relative to its folder."""
    recipe: Recipe
    crystal: Frame
    """The structure in `recipe.structure`."""
    frames: tuple[UserFrame, ...] = ()
    """The frames chosen from the files in `recipe.given`."""

    @property
    def folder(self) -> Path:
        """The folder of all results."""
        return self.base / self.recipe.folder

    @property
    def base(self) -> Path:
        """The folder to which paths in the recipe are relative."""
        return self.file.parent

    @property
    def structure(self) -> Path:
        """The file of the crystal."""
        return self.base / self.recipe.structure

    @property
    def reference(self) -> Path | None:
        """The file of the fixed reference, if there is one."""
        named = self.recipe.potential.reference
        return self.base / named if named else None

    @property
    def given(self) -> tuple[Path, ...]:
        """The files of further structures."""
        return tuple(self.base / name for name in self.recipe.given.files)

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements of the potential."""
        return self.recipe.potential.elements or symbols_of(self.crystal)

    def descriptor(
        self, *, twojmax: int | None = None, cutoff: float | None = None
    ) -> SnapDescriptor:
        """The descriptors of the recipe, or those of a point of its sweep."""
        wanted, count = self.recipe.potential, len(self.elements)
        return SnapDescriptor(
            twojmax=wanted.twojmax if twojmax is None else twojmax,
            cutoff=wanted.cutoff if cutoff is None else cutoff,
            elements=self.elements,
            radii=wanted.radii or (0.5,) * count,
            weights=wanted.weights or (1.0,) * count,
            rfac0=wanted.rfac0,
            rmin0=wanted.rmin0,
            quadratic=wanted.quadratic,
            bzero=wanted.bzero,
        )


def load_project(path: Path) -> DistillationProject:
    """Read a distill.toml, or the one in a folder, and the structures it names.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a value of the wrong kind, values that
            contradict each other or the structure.
    """
    file, text = read_settings(path, "distill.toml")
    recipe = parse_recipe(text, file.name)
    project = DistillationProject(file, recipe, read_structure(file.parent / recipe.structure)[1])
    _check_crystal(project)
    _check_files(project)
    frames = read_user_frames(project.given, recipe.given.most, project.elements)
    project = replace(project, frames=tuple(frames))
    _check_elements(project)
    _check_cutoffs(project)
    _check_sizes(project)
    return project


def parse_recipe(text: str, name: str = "distill.toml") -> Recipe:
    """Turn the text of a distill.toml into typed values.

    Raises:
        ConfigError: no TOML, an unknown key, a value of the wrong kind, a contradiction.
    """
    recipe = convert_toml(text, name, Recipe)
    problem = next(problems(recipe), "")
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return recipe


def symbols_of(frame: Frame) -> tuple[str, ...]:
    """The elements of a structure, by symbol."""
    return tuple(sorted(chemical_symbols[n] for n in np.unique(frame.topology.numbers)))


def _check_crystal(project: DistillationProject) -> None:
    file, crystal = project.structure, project.crystal
    if not all(crystal.topology.pbc):
        raise ConfigError(
            f"{project.file.name}: structure {file} does not repeat in all three directions, so it "
            "is not bulk; distilling needs a bulk crystal: a primitive or conventional cell with "
            'pbc="T T T"'
        )
    missing = sorted(set(symbols_of(crystal)) - set(project.elements))
    if missing:
        raise ConfigError(
            f"{project.file.name}: potential.elements = {list(project.elements)} lacks "
            f"{', '.join(missing)}, which structure {file} has"
        )
    try:
        project.descriptor()
        for twojmax in project.recipe.sweep.twojmax:
            for cutoff in project.recipe.sweep.cutoffs:
                project.descriptor(twojmax=twojmax, cutoff=cutoff)
    except ValueError as error:
        raise ConfigError(f"{project.file.name}: [potential] or [sweep]: {error}") from error


def _check_files(project: DistillationProject) -> None:
    named = [("compare", project.base / name, "LAMMPS commands") for name in project.recipe.compare]
    named += [("given.files", file, "structures") for file in project.given]
    if project.reference is not None:
        named.append(("potential.reference", project.reference, "LAMMPS commands"))
    for key, file, content in named:
        if not file.is_file():
            raise ConfigError(
                f"{project.file.name}: {key} names {file}, which does not exist; it takes files of "
                f"{content}, relative to the recipe"
            )


def _check_elements(project: DistillationProject) -> None:
    """Each element of the potential must occur in a structure."""
    known = set(symbols_of(project.crystal))
    for given in project.frames:
        known.update(symbols_of(given.frame))
    nowhere = [symbol for symbol in project.elements if symbol not in known]
    if nowhere:
        raise ConfigError(
            f"{project.file.name}: potential.elements names {', '.join(nowhere)}, but neither "
            f"{project.structure} nor any frame of given.files has such an atom, so its "
            "coefficients would be zero: leave it out, or give frames with it"
        )


def _check_cutoffs(project: DistillationProject) -> None:
    """Each atom of the crystal must have neighbours within all cutoffs."""
    crystal, recipe, descriptor = project.crystal, project.recipe, project.descriptor()
    reach = 4.0 * float(crystal.volume / len(crystal)) ** (1.0 / 3.0)
    first, second, apart, _ = neighbour_list(crystal, reach)
    symbols = [chemical_symbols[number] for number in crystal.topology.numbers]
    radius = dict(zip(descriptor.elements, descriptor.radii, strict=True))
    radii = np.array([radius[symbol] for symbol in symbols])
    within = {
        f"potential.cutoff = {descriptor.cutoff:g} Å": apart
        < descriptor.cutoff * (radii[first] + radii[second])
    }
    if recipe.pair.functions:
        within[f"pair.cutoff = {recipe.pair.cutoff:g} Å"] = apart < recipe.pair.cutoff
    for key, near in within.items():
        alone = sorted(set(range(len(crystal))) - set(first[near].tolist()))
        if alone:
            nearest = apart[first == alone[0]].min(initial=np.inf)
            raise ConfigError(
                f"{project.file.name}: {key} includes no neighbour of atom {alone[0]} "
                f"({symbols[alone[0]]}) of the crystal, whose nearest is {nearest:.2f} Å away. "
                "Choose one that includes two shells of neighbours or more (with radii of 0.5 it "
                "is a distance)"
            )


def _check_sizes(project: DistillationProject) -> None:
    """Check for too few or too small structures, and for a supercell instead of a unit cell."""
    soft, fit, file = project.recipe.soft, project.recipe.fit, project.file.name
    atoms = len(project.crystal) * math.prod(repeats_for_atoms(project.crystal, soft.atoms))
    if soft.vacancies and atoms < 2:
        raise ConfigError(
            f"{file}: soft.atoms = {soft.atoms} makes a supercell of {atoms} atom, and "
            f"soft.vacancies = {soft.vacancies} removes it; raise soft.atoms to 50 or more"
        )
    names = [f"{t:g}K-{at}" for t in soft.temperatures for at in range(soft.snapshots)]
    counts = {"strained": soft.strained, "vacancy": soft.vacancies, "given": len(project.frames)}
    names += [f"{kind}-{at}" for kind, count in counts.items() for at in range(count)]
    uses = Counter(split_structures(names, fit.validation).values())
    partition = project.recipe.partition
    chosen = ["fit.ridge"] if fit.ridge == "auto" else []
    if partition.weight == "auto" and partition.regions > 0:
        chosen.append("partition.weight")
    if chosen and not uses["validation"]:
        raise ConfigError(
            f"{file}: of the {len(names)} structures of [soft] and [given] {uses['train']} are "
            f"fitted and none is left to choose {' and '.join(chosen)}. Raise soft.snapshots to a "
            f"dozen, or set {' and '.join(chosen)} to a number"
        )
    _check_primitive(project)


def _check_primitive(project: DistillationProject) -> None:
    if len(project.crystal) <= _LARGE:
        return
    try:
        found = find_primitive_cell(project.crystal)
    except ConfigError:  # its cell is large
        return
    raise ConfigError(
        f"{project.file.name}: structure {project.structure} has {len(project.crystal)} atoms and "
        f"repeats a cell of {len(found.crystal)} ({100.0 * found.fraction:.0f} % of its atoms are "
        "at sites of that crystal). Use that cell: supercells, strains and vacancies are made "
        "from it. A structure with defects can be added to the fit with given.files."
        f"{_as_xyz(found)}"
    )


def _as_xyz(found: PrimitiveCell) -> str:
    """The cell as an .xyz file to copy from the message, if it is small."""
    cell = found.crystal
    if len(cell) > _LARGE:
        return ""
    text = io.StringIO()
    write(text, as_atoms(cell), format="extxyz")
    return f"\n As a .xyz file it is:\n{text.getvalue().rstrip()}"
