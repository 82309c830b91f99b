"""The seeds of a new case: as the user wrote them, or found in the structure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.new_case.crystal import Shell, neighbour_shell

_RARE: Final = 0.02
"""An element with a smaller share of the atoms is taken for the impurity of interest."""
_MANY: Final = 0.1
"""Of all atoms; more seeds are no defect but a surface, a second phase or a liquid."""
_FEW: Final = 30
"""Never too many, in a small cell either."""
FORMS: Final = (
    "'atoms 0 5 7-9' (from 0), 'ids 1 6 8-10' (of LAMMPS), 'species He', 'sphere X Y Z RADIUS' "
    "(Å), 'coordination' (found again as the run goes), 'criterion COMPUTE low A high B' (any "
    "per-atom compute of LAMMPS), or 'auto'"
)


@dataclass(frozen=True)
class SeedChoice:
    """The seeds as lines of mix.toml."""

    lines: tuple[str, ...]
    """The table [region.seeds]."""
    kind: str
    """As in mix.toml: "atoms", "species", "sphere" or "criterion"."""
    words: str
    """What was chosen and why, for people."""


def choose_seeds(text: str, frame: Frame, ids: Sequence[int] | None) -> SeedChoice:
    """Read the option --seeds, or find seeds in the structure.

    Args:
        text: the option; "auto" looks for an impurity, then for atoms with another coordination.
        frame: the atoms, in i-PI's order.
        ids: LAMMPS's atom ids in that order; None if the structure has none.

    Raises:
        ConfigError: the option was not understood, names atoms that are not there, or nothing was
            found.
    """
    kind, *words = text.split() or ["auto"]
    match kind:
        case "auto":
            return _found(frame)
        case "atoms":
            return _atoms(_numbers(words, text), frame, "as given")
        case "ids":
            return _ids(_numbers(words, text), frame, ids)
        case "species":
            return _species([word for part in words for word in part.split(",")], frame, "as given")
        case "sphere":
            return _sphere(words, text)
        case "coordination":
            return _coordination(frame)
        case "criterion":
            return _criterion(words, text)
    raise ConfigError(f"--seeds {text!r} was not understood; give {FORMS}")


def _found(frame: Frame) -> SeedChoice:
    numbers, counts = np.unique(frame.topology.numbers, return_counts=True)
    rare = [int(z) for z, n in zip(numbers, counts, strict=True) if n < _RARE * len(frame)]
    if rare:
        symbols = [chemical_symbols[z] for z in rare]
        return _species(symbols, frame, f"the element{'s' if len(rare) > 1 else ''} with few atoms")
    shell = _shell_with_defect(frame)
    return _atoms(
        shell.others.tolist(),
        frame,
        f"they do not have {shell.neighbours} neighbours within {shell.cutoff:g} Å, as most atoms "
        "do; the region stays with these atoms (--seeds coordination finds them again as the run "
        "goes)",
    )


def _shell_with_defect(frame: Frame) -> Shell:
    """The neighbour shell, if few atoms lack it."""
    shell = neighbour_shell(frame)
    if shell is None:
        raise ConfigError(
            "no seeds were found: the structure has no clear neighbour shells and no element with "
            f"few atoms; state where the expensive model is needed, --seeds with {FORMS}"
        )
    most = f"{shell.neighbours} neighbours within {shell.cutoff:g} Å"
    if not len(shell.others):
        raise ConfigError(
            f"no seeds were found: every atom has {most}; state where the expensive model is "
            f"needed, --seeds with {FORMS}"
        )
    if len(shell.others) > max(_MANY * len(frame), _FEW):
        raise ConfigError(
            f"no seeds were found: {len(shell.others)} of {len(frame)} atoms do not have {most}, "
            "too many for a defect (surfaces, another phase, or a structure that is hot); state "
            f"where the expensive model is needed, --seeds with {FORMS}"
        )
    return shell


def _atoms(indices: Sequence[int], frame: Frame, why: str) -> SeedChoice:
    chosen = sorted(set(indices))
    if not chosen:
        raise ConfigError(f"--seeds names no atom; give {FORMS}")
    outside = [i for i in chosen if not 0 <= i < len(frame)]
    if outside:
        raise ConfigError(
            f"--seeds names atom {outside[0]}, but the structure has {len(frame)} atoms, counted "
            "from 0"
        )
    shown = ", ".join(map(str, chosen[:8])) + (", ..." if len(chosen) > 8 else "")
    return SeedChoice(
        ('kind = "atoms"', f"indices = {chosen}"),
        "atoms",
        f"{len(chosen)} atoms ({shown}): {why}",
    )


def _ids(wanted: Sequence[int], frame: Frame, ids: Sequence[int] | None) -> SeedChoice:
    if ids is None:
        raise ConfigError(
            "--seeds ids: the structure is not LAMMPS's, so its atoms have no ids; use --seeds "
            "'atoms ...', counted from 0"
        )
    place = {tag: at for at, tag in enumerate(ids)}
    missing = [tag for tag in wanted if tag not in place]
    if missing:
        raise ConfigError(f"--seeds ids: no atom has id {missing[0]}")
    return _atoms([place[tag] for tag in wanted], frame, "LAMMPS's ids as given")


def _species(symbols: Sequence[str], frame: Frame, why: str) -> SeedChoice:
    for symbol in symbols:
        z = atomic_numbers.get(symbol, 0)
        if not z or not (frame.topology.numbers == z).any():
            raise ConfigError(f"--seeds species {symbol}: the structure has no {symbol}")
    if not symbols:
        raise ConfigError(f"--seeds species names no element; give {FORMS}")
    n = int(np.isin(frame.topology.numbers, [atomic_numbers[s] for s in symbols]).sum())
    return SeedChoice(
        ('kind = "species"', f"elements = {json.dumps(list(symbols))}"),
        "species",
        f"all {n} {', '.join(symbols)}: {why}; the region follows them",
    )


def _sphere(words: Sequence[str], text: str) -> SeedChoice:
    try:
        x, y, z, radius = (float(word) for word in words)
    except ValueError as error:
        raise ConfigError(
            f"--seeds {text!r}: give the centre and the radius in Å, 'sphere 10 10 10 5'"
        ) from error
    return SeedChoice(
        ('kind = "sphere"', f"centre = [{x!r}, {y!r}, {z!r}]", f"radius = {radius!r}"),
        "sphere",
        f"a sphere of {radius:g} Å around {x:g}, {y:g}, {z:g}, in the frame of init.extxyz",
    )


def _coordination(frame: Frame) -> SeedChoice:
    shell = _shell_with_defect(frame)
    n = shell.neighbours
    count = f"coord/atom cutoff {shell.cutoff:g}"
    # around a vacancy they are fewer, around an interstitial more; one interval is either
    if 2 * int((shell.counts < n).sum()) < len(shell.counts):
        bounds, side = (f"low = {n + 0.5!r}",), f"more than {n}"
    else:
        bounds, side = (f"high = {n - 0.5!r}",), f"fewer than {n}"
    return SeedChoice(
        (
            'kind = "criterion"',
            f'compute = "{count}"',
            *bounds,
            "every = 10                    # evaluations between two choices",
            "samples = 10                  # the mean of so many evaluations",
            f"initial = {shell.others.tolist()}",
        ),
        "criterion",
        f"atoms with {side} neighbours within {shell.cutoff:g} Å, {len(shell.others)} at the "
        "start; chosen again every 10 evaluations, from counts of each one",
    )


def _criterion(words: Sequence[str], text: str) -> SeedChoice:
    compute: list[str] = []
    bounds: dict[str, float] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in {"low", "high"} and rest:
            try:
                bounds[word] = float(rest.pop(0))
            except ValueError as error:
                raise ConfigError(f"--seeds {text!r}: {word} wants a number") from error
        else:
            compute.append(word)
    if not compute or not bounds or not all(math.isfinite(value) for value in bounds.values()):
        raise ConfigError(
            f"--seeds {text!r}: give a compute of LAMMPS without its ID and group, and a bound, "
            "'criterion coord/atom cutoff 2.8 high 3.6'"
        )
    name = " ".join(compute)
    said = " and ".join(
        f"{'at least' if key == 'low' else 'at most'} {value:g}" for key, value in bounds.items()
    )
    return SeedChoice(
        (
            'kind = "criterion"',
            f"compute = {json.dumps(name)}",
            *(f"{key} = {value!r}" for key, value in bounds.items()),
            "every = 10                    # evaluations between two choices",
            "samples = 10                  # the mean of so many evaluations",
        ),
        "criterion",
        f"atoms whose {name} is {said}",
    )


def _numbers(words: Sequence[str], text: str) -> list[int]:
    """Numbers and ranges, "0 5 7-9" or "0,5,7-9"."""
    found: list[int] = []
    for word in filter(None, ",".join(words).split(",")):
        first, dash, last = word.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ConfigError(f"--seeds {text!r}: {word!r} is no number and no range such as 7-9")
        found += range(int(first), int(last or first) + 1)
    return found
