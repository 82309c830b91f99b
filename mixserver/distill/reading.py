"""Reading distill.toml: unknown keys, wrong types and contradictions are errors that name the cure.

Nothing is asked of a model here, and nothing of what a distillation left behind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mixserver.config.load import typed
from mixserver.distill.descriptor import Descriptor
from mixserver.distill.recipe import Fit, Hard, Partition, Potential, Recipe, Soft
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.record.structures import read_structure

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_FEWEST_STEPS = 2


@dataclass(frozen=True, eq=False)
class Order:
    """One distillation: a recipe, where it lies, and the crystal it names."""

    file: Path
    """The distill.toml itself; paths in it are relative to its folder."""
    recipe: Recipe
    crystal: Frame
    """What `recipe.structure` holds."""

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
    return order


def parse_recipe(text: str, name: str = "distill.toml") -> Recipe:
    """Turn the text of a distill.toml into typed values.

    Raises:
        ConfigError: no TOML, an unknown key, a value of the wrong kind, a contradiction.
    """
    recipe = typed(text, name, Recipe)
    problem = next(_contradictions(recipe), "")
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


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """What is typed correctly but cannot be meant."""
    if not _NAME.fullmatch(recipe.name):
        yield f"name = {recipe.name!r} must be fit for a file: letters, digits, . _ + -"
    if not recipe.structure:
        yield "structure is empty; name the file of a bulk crystal"
    if not recipe.folder or Path(recipe.folder) == Path():
        yield "folder is empty; a distillation needs a folder of its own, e.g. 'distilled'"
    expensive = recipe.expensive
    if bool(expensive.command) == bool(expensive.door):
        yield (
            "[expensive] needs either command (workers that are started here) or door (where "
            f"workers from elsewhere connect); it has {'both' if expensive.door else 'neither'}"
        )
    if expensive.count < 1 or expensive.threads < 1:
        yield "expensive.count and expensive.threads must be at least 1"
    yield from _potential(recipe.potential)
    yield from _pair(recipe)
    yield from _soft(recipe.soft)
    if recipe.given.most < 1:
        yield f"given.most = {recipe.given.most} must be at least 1; for none, given.files = []"
    yield from _hard(recipe.hard)
    yield from _partition(recipe.partition)
    yield from _fit(recipe.fit)
    if not recipe.sweep.twojmax or not recipe.sweep.cutoffs:
        yield "sweep.twojmax and sweep.cutoffs need at least one value each"


def _potential(potential: Potential) -> Iterator[str]:
    for symbol in potential.elements:
        if atomic_numbers.get(symbol, 0) < 1:
            yield f"potential.elements: {symbol!r} is no chemical element"
    if len(set(potential.elements)) != len(potential.elements):
        yield f"potential.elements = {list(potential.elements)} names an element twice"


def _pair(recipe: Recipe) -> Iterator[str]:
    pair = recipe.pair
    if pair.functions != 0 and not 6 <= pair.functions <= 200:
        yield f"pair.functions = {pair.functions} must be 0 (none), or 6 to 200"
    if not 1.0 <= pair.cutoff <= 20.0:
        yield f"pair.cutoff = {pair.cutoff} Å must be 1 to 20"


def _soft(soft: Soft) -> Iterator[str]:
    if not soft.temperatures:
        yield "soft.temperatures is empty; name at least one temperature (K)"
    if any(not (math.isfinite(t) and t > 0) for t in soft.temperatures):
        yield f"soft.temperatures = {list(soft.temperatures)} must be above 0 K"
    if len(set(soft.temperatures)) != len(soft.temperatures):
        yield (
            f"soft.temperatures = {list(soft.temperatures)} names one twice; soft.copies is for "
            "several trajectories of a temperature"
        )
    positive = ("equilibration_ps", "every_ps", "timestep_fs", "friction_fs", "strain")
    yield from _each(soft, "soft", positive, "must be above 0", lambda value: value > 0)
    counts = ("atoms", "snapshots", "copies")
    yield from _each(soft, "soft", counts, "must be at least 1", lambda value: value >= 1)
    natural = ("strained", "vacancies", "seed")
    yield from _each(soft, "soft", natural, "must not be negative", lambda value: value >= 0)
    if soft.every_ps * 1e3 < _FEWEST_STEPS * soft.timestep_fs:
        yield (
            f"soft.every_ps = {soft.every_ps} ps is less than {_FEWEST_STEPS} steps of "
            f"soft.timestep_fs = {soft.timestep_fs} fs; snapshots so near tell nothing new"
        )
    if soft.copies > soft.snapshots:
        yield f"soft.copies = {soft.copies} is more than soft.snapshots = {soft.snapshots}"
    if soft.strain >= 0.2:
        yield f"soft.strain = {soft.strain} is a fraction; 0.2 and more is no crystal any longer"
    most = soft.snapshots * len(soft.temperatures)
    for key in ("strained", "vacancies"):
        if getattr(soft, key) > most:
            yield f"soft.{key} = {getattr(soft, key)}, but there are only {most} snapshots"


def _hard(hard: Hard) -> Iterator[str]:
    if not 0 < hard.strain < 0.05:
        yield f"hard.strain = {hard.strain} must be above 0 and below 0.05: small, yet felt"
    if not hard.alpha > 0:
        yield f"hard.alpha = {hard.alpha} must be above 0; for none at all, hard.form = 'exact'"


def _partition(partition: Partition) -> Iterator[str]:
    if not 1 <= partition.groups <= 64:
        yield f"partition.groups = {partition.groups} must be 1 to 64"
    if not isinstance(partition.weight, str) and not _sane(partition.weight):
        yield f"partition.weight = {partition.weight} must be 0 or more, or 'auto'"
    if not 0 <= partition.regions <= 200:
        yield f"partition.regions = {partition.regions} must be 0 to 200"
    for key in ("price", "hot"):
        if not _sane(getattr(partition, key)):
            yield f"partition.{key} = {getattr(partition, key)} must be 0 or more"


def _fit(fit: Fit) -> Iterator[str]:
    for key in ("energy", "force", "virial", "smooth"):
        if not _sane(getattr(fit, key)):
            yield f"fit.{key} = {getattr(fit, key)} must be 0 or more"
    if fit.energy == fit.force == fit.virial == 0:
        yield "fit.energy, fit.force and fit.virial are all 0, so nothing would be fitted"
    if not isinstance(fit.ridge, str) and not _sane(fit.ridge):
        yield f"fit.ridge = {fit.ridge} must be 0 or more, or 'auto'"
    if not 0 < fit.validation <= 1 / 3:
        yield (
            f"fit.validation = {fit.validation} must be above 0 and at most 1/3: as many "
            "structures again are kept for the test"
        )


def _each(
    table: Soft, name: str, keys: tuple[str, ...], law: str, holds: Callable[[float], bool]
) -> Iterator[str]:
    for key in keys:
        value = getattr(table, key)
        if not (math.isfinite(value) and holds(value)):
            yield f"{name}.{key} = {value} {law}"


def _sane(value: float) -> bool:
    return math.isfinite(value) and value >= 0
