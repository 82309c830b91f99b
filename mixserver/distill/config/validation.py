"""Checks of the values in a recipe: ranges, and keys that contradict each other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from ase.data import atomic_numbers

from mixserver.config.validation import unlocked_error
from mixserver.distill.config.schema import Fit, Hard, Partition, Potential, Recipe, Soft

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.+-]*")
_FEWEST_STEPS: Final = 2
_NATURAL: Final = ("must be 0 or more", lambda value: value >= 0)


def problems(recipe: Recipe) -> Iterator[str]:
    """Each problem as a sentence with the remedy."""
    if not _NAME.fullmatch(recipe.name):
        yield f"name = {recipe.name!r} must be a file name: letters, digits, . _ + -"
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
    if why := unlocked_error("expensive.door", expensive.door, "expensive.keys", expensive.keys):
        yield why
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
            yield f"potential.elements: {symbol!r} is not a chemical element"
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
            f"soft.temperatures = {list(soft.temperatures)} names one twice; set soft.copies for "
            "several trajectories per temperature"
        )
    positive = ("equilibration_ps", "every_ps", "timestep_fs", "friction_fs", "strain")
    yield from _each(soft, "soft", positive, "must be above 0", lambda value: value > 0)
    counts = ("atoms", "snapshots", "copies")
    yield from _each(soft, "soft", counts, "must be at least 1", lambda value: value >= 1)
    yield from _each(soft, "soft", ("strained", "vacancies", "seed"), *_NATURAL)
    if soft.every_ps * 1e3 < _FEWEST_STEPS * soft.timestep_fs:
        yield (
            f"soft.every_ps = {soft.every_ps} ps is less than {_FEWEST_STEPS} steps of "
            f"soft.timestep_fs = {soft.timestep_fs} fs; snapshots so close are nearly identical"
        )
    if soft.copies > soft.snapshots:
        yield f"soft.copies = {soft.copies} is more than soft.snapshots = {soft.snapshots}"
    if soft.strain >= 0.2:
        yield f"soft.strain = {soft.strain} is a fraction and must be below 0.2"
    most = soft.snapshots * len(soft.temperatures)
    for key in ("strained", "vacancies"):
        if getattr(soft, key) > most:
            yield f"soft.{key} = {getattr(soft, key)}, but there are only {most} snapshots"


def _hard(hard: Hard) -> Iterator[str]:
    if not 0 < hard.strain < 0.05:
        yield f"hard.strain = {hard.strain} must be above 0 and below 0.05"
    if not hard.alpha > 0:
        yield f"hard.alpha = {hard.alpha} must be above 0; for exact ones set hard.form = 'exact'"


def _partition(partition: Partition) -> Iterator[str]:
    if not 1 <= partition.groups <= 64:
        yield f"partition.groups = {partition.groups} must be 1 to 64"
    if not 0.0 <= partition.strain <= 1.0:
        yield f"partition.strain = {partition.strain} must be 0 (none) to 1; 0.02 is recommended"
    if not 0 <= partition.regions <= 200:
        yield f"partition.regions = {partition.regions} must be 0 to 200"
    yield from _each(partition, "partition", ("price", "hot"), *_NATURAL)
    yield from _automatic("partition.weight", partition.weight)


def _fit(fit: Fit) -> Iterator[str]:
    yield from _each(fit, "fit", ("energy", "force", "virial", "smooth"), *_NATURAL)
    yield from _automatic("fit.ridge", fit.ridge)
    if fit.energy == fit.force == fit.virial == 0:
        yield "fit.energy, fit.force and fit.virial are all 0, so nothing would be fitted"
    if not 0 < fit.validation <= 1 / 3:
        yield (
            f"fit.validation = {fit.validation} must be above 0 and at most 1/3: as many "
            "structures again are held out for testing"
        )


def _each(
    table: msgspec.Struct,
    name: str,
    keys: tuple[str, ...],
    law: str,
    holds: Callable[[float], bool],
) -> Iterator[str]:
    for key in keys:
        value = getattr(table, key)
        if not (math.isfinite(value) and holds(value)):
            yield f"{name}.{key} = {value} {law}"


def _automatic(key: str, value: float | str) -> Iterator[str]:
    if not isinstance(value, str) and not (math.isfinite(value) and value >= 0):
        yield f"{key} = {value} must be 0 or more, or 'auto'"
