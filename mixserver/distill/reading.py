"""Reading distill.toml: unknown keys, wrong types and contradictions are errors that name the cure.

Nothing is asked of a model here, and nothing of what a distillation left behind.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list

from mixserver.arrays import Indices, Mask, Scalars
from mixserver.config.load import typed
from mixserver.crystal.repeating import Repeating, repeating_cell
from mixserver.crystal.supercell import for_atoms
from mixserver.distill.contradictions import contradictions
from mixserver.distill.dealing import splits
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.given import Given, given_frames
from mixserver.distill.recipe import Recipe
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.record.structures import read_structure

_LARGE = 24
"""Atoms in a cell above which it may well be a supercell."""


@dataclass(frozen=True, eq=False)
class Order:
    """One distillation: a recipe, where it lies, and the crystal it names."""

    file: Path
    """The distill.toml itself; paths in it are relative to its folder."""
    recipe: Recipe
    crystal: Frame
    """What `recipe.structure` holds."""
    frames: tuple[Given, ...] = ()
    """What is chosen of the files in `recipe.given`."""

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return self.base / self.recipe.folder

    @property
    def base(self) -> Path:
        """What paths in the recipe are relative to."""
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
        """Those of the potential."""
        return self.recipe.potential.elements or symbols_of(self.crystal)

    def descriptor(self, *, twojmax: int | None = None, cutoff: float | None = None) -> Descriptor:
        """The descriptors the recipe asks for, or those of a point of its sweep."""
        wanted, count = self.recipe.potential, len(self.elements)
        return Descriptor(
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


def load_order(path: Path) -> Order:
    """Read a distill.toml, or the one in a folder, and the crystal it names.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a value of the wrong kind, values that
            contradict each other or the structure.
    """
    file = path / "distill.toml" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({error.strerror}); give a distill.toml or its folder"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: {error}") from error
    recipe = parse_recipe(text, file.name)
    order = Order(file, recipe, read_structure(file.parent / recipe.structure)[1])
    _check_crystal(order)
    _check_files(order)
    frames = given_frames(order.given, recipe.given.most, order.elements)
    order = replace(order, frames=tuple(frames))
    _check_elements(order)
    _check_cutoffs(order)
    _check_sizes(order)
    return order


def parse_recipe(text: str, name: str = "distill.toml") -> Recipe:
    """Turn the text of a distill.toml into typed values.

    Raises:
        ConfigError: no TOML, an unknown key, a value of the wrong kind, a contradiction.
    """
    recipe = typed(text, name, Recipe)
    problem = next(contradictions(recipe), "")
    if problem:
        raise ConfigError(f"{name}: {problem}")
    return recipe


def symbols_of(frame: Frame) -> tuple[str, ...]:
    """The elements of a structure, by symbol."""
    return tuple(sorted(chemical_symbols[n] for n in np.unique(frame.topology.numbers)))


def _check_crystal(order: Order) -> None:
    file, crystal = order.structure, order.crystal
    if not all(crystal.topology.pbc):
        raise ConfigError(
            f"{order.file.name}: structure {file} does not repeat in all three directions, so it "
            "is not bulk; distilling needs a bulk crystal: a primitive or conventional cell with "
            'pbc="T T T"'
        )
    missing = sorted(set(symbols_of(crystal)) - set(order.elements))
    if missing:
        raise ConfigError(
            f"{order.file.name}: potential.elements = {list(order.elements)} lacks "
            f"{', '.join(missing)}, which structure {file} has"
        )
    try:
        order.descriptor()
        for twojmax in order.recipe.sweep.twojmax:
            for cutoff in order.recipe.sweep.cutoffs:
                order.descriptor(twojmax=twojmax, cutoff=cutoff)
    except ValueError as error:
        raise ConfigError(f"{order.file.name}: [potential] or [sweep]: {error}") from error


def _check_files(order: Order) -> None:
    for name in order.recipe.compare:
        if not (order.base / name).is_file():
            raise ConfigError(
                f"{order.file.name}: compare names {order.base / name}, which does not exist; "
                "files of LAMMPS commands, relative to the recipe"
            )
    for file in order.given:
        if not file.is_file():
            raise ConfigError(
                f"{order.file.name}: given.files names {file}, which does not exist; files of "
                "structures, relative to the recipe"
            )
    if order.reference is not None and not order.reference.is_file():
        raise ConfigError(
            f"{order.file.name}: potential.reference {order.reference} does not exist; it is a "
            "file of LAMMPS commands, relative to the recipe"
        )


def _check_elements(order: Order) -> None:
    """An element that is nowhere would have an atom that feels nothing."""
    known = set(symbols_of(order.crystal))
    for given in order.frames:
        known.update(symbols_of(given.frame))
    nowhere = [symbol for symbol in order.elements if symbol not in known]
    if nowhere:
        raise ConfigError(
            f"{order.file.name}: potential.elements names {', '.join(nowhere)}, of which there is "
            f"no atom in {order.structure} nor in any frame of given.files, so nothing could be "
            "learned of it and its atoms would feel nothing: leave it out, or give frames with it"
        )


def _check_cutoffs(order: Order) -> None:
    """A cutoff within which an atom of the crystal is alone tells nothing of the crystal."""
    crystal, recipe = order.crystal, order.recipe
    atoms = Atoms(
        crystal.topology.numbers, positions=crystal.positions, cell=crystal.cell, pbc=True
    )
    reach = 4.0 * float(crystal.volume / len(crystal)) ** (1.0 / 3.0)
    first, second, apart = neighbor_list("ijd", atoms, reach)
    symbols = atoms.get_chemical_symbols()
    descriptor = order.descriptor()
    radius = dict(zip(descriptor.elements, descriptor.radii, strict=True))
    radii = np.array([radius[symbol] for symbol in symbols])
    within = apart < descriptor.cutoff * (radii[first] + radii[second])
    key = f"potential.cutoff = {descriptor.cutoff:g} Å"
    _must_see(order, key, symbols, first, apart, within)
    if recipe.pair.functions:
        key = f"pair.cutoff = {recipe.pair.cutoff:g} Å"
        _must_see(order, key, symbols, first, apart, apart < recipe.pair.cutoff)


def _must_see(
    order: Order, key: str, symbols: list[str], first: Indices, apart: Scalars, within: Mask
) -> None:
    """Each atom must have a neighbour within a cutoff."""
    blind = sorted(set(range(len(symbols))) - set(first[within].tolist()))
    if not blind:
        return
    nearest = apart[first == blind[0]].min(initial=np.inf)
    raise ConfigError(
        f"{order.file.name}: {key} sees no neighbour of atom {blind[0]} ({symbols[blind[0]]}) of "
        f"the crystal, whose nearest is {nearest:.2f} Å away. Take one that holds two shells of "
        "neighbours or more (with radii of 0.5 it is a distance)"
    )


def _check_sizes(order: Order) -> None:
    """Few structures, small ones, and a crystal that is no cell but many."""
    soft, fit, file = order.recipe.soft, order.recipe.fit, order.file.name
    atoms = len(order.crystal) * math.prod(for_atoms(order.crystal, soft.atoms))
    if soft.vacancies and atoms < 2:
        raise ConfigError(
            f"{file}: soft.atoms = {soft.atoms} makes a supercell of {atoms} atom, and "
            f"soft.vacancies = {soft.vacancies} takes it away; raise soft.atoms to 50 or more"
        )
    names = [f"{t:g}K-{at}" for t in soft.temperatures for at in range(soft.snapshots)]
    counts = {"strained": soft.strained, "vacancy": soft.vacancies, "given": len(order.frames)}
    names += [f"{kind}-{at}" for kind, count in counts.items() for at in range(count)]
    uses = Counter(splits(names, fit.validation).values())
    partition = order.recipe.partition
    chosen = [
        key
        for key, auto in (
            ("fit.ridge", fit.ridge == "auto"),
            ("partition.weight", partition.weight == "auto" and partition.regions > 0),
        )
        if auto
    ]
    if chosen and not uses["validation"]:
        raise ConfigError(
            f"{file}: of the {len(names)} structures of [soft] and [given] {uses['train']} are "
            f"fitted and none is left to choose {' and '.join(chosen)} by. Raise soft.snapshots to "
            f"a dozen, or give {' and '.join(chosen)} a number"
        )
    _refuse_supercell(order)


def _refuse_supercell(order: Order) -> None:
    if len(order.crystal) <= _LARGE:
        return
    try:
        found = repeating_cell(order.crystal)
    except ConfigError:  # its cell is large
        return
    raise ConfigError(
        f"{order.file.name}: structure {order.structure} has {len(order.crystal)} atoms and "
        f"repeats a cell of {len(found.crystal)} ({100.0 * found.share:.0f} % of its atoms are at "
        "places of that crystal). Give that cell: supercells, strains and vacancies are made of "
        "it, and a structure with defects can be fitted along in given.files."
        f"{_as_xyz(found)}"
    )


def _as_xyz(found: Repeating) -> str:
    """The cell as a file that can be copied out of the message, if it is small."""
    cell = found.crystal
    if len(cell) > _LARGE:
        return ""
    lattice = " ".join(f"{value:.4f}" for value in cell.cell.ravel())
    rows = [
        f"{chemical_symbols[number]} " + " ".join(f"{value:.4f}" for value in place)
        for number, place in zip(cell.topology.numbers, cell.positions, strict=True)
    ]
    head = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    return "\n".join([" As a .xyz file it is:", str(len(cell)), head, *rows])
