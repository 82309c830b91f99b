"""Files of many-body potentials in which a site counts or does not: pure text, without LAMMPS.

Each element of a file becomes several that count or do not (`Counted`).
The energy of such a system is the sum of the site energies of the atoms that count, where

* half of a pair's energy belongs to each of its atoms,
* embedding, three-body and bond-order terms belong to their central atom.

An atom that does not count is a neighbour like any other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

_Words: TypeAlias = list[str]


class UnknownFormat(Exception):
    """A file of a potential does not look as LAMMPS documents it; the message is what differs."""


class Counted(NamedTuple):
    """An element of the new file."""

    label: str
    """Its name there."""
    name: str
    """The element of the old file that it is otherwise."""
    counts: bool


def _mean(one: int, other: int) -> float:
    return 0.5 * (one + other)


def counted_setfl(text: str, elements: Sequence[Counted], *, finnis_sinclair: bool) -> str:
    """An eam/alloy or eam/fs file.

    Raises:
        UnknownFormat: it is no such file.
    """
    lines = text.splitlines()
    try:
        here = lines[3].split()[1:]
        grid = lines[4].split()
        rho_points, r_points = int(grid[0]), int(grid[2])
        words = iter(word for line in lines[5:] for word in line.split())
        heads: list[_Words] = []
        embedding: list[_Words] = []
        density: list[list[_Words]] = []
        for _ in here:
            heads.append(_take(words, 4))
            embedding.append(_take(words, rho_points))
            density.append(
                [_take(words, r_points) for _ in (here if finnis_sinclair else here[:1])]
            )
        pairs = {
            (row, column): _take(words, r_points)
            for row in range(len(here))
            for column in range(row + 1)
        }
        place = [here.index(element.name) for element in elements]
    except (IndexError, ValueError) as error:
        names = " ".join(dict.fromkeys(element.name for element in elements))
        raise UnknownFormat(f"it is no complete eam file with {names}") from error
    title = " ".join(element.label for element in elements)
    written = ["sites", "that", "count", f"{len(elements)} {title}", lines[4]]
    for at, element in zip(place, elements, strict=True):
        written.append(" ".join(heads[at]))
        written += embedding[at] if element.counts else ["0.0"] * rho_points
        for partner in place if finnis_sinclair else [0]:
            written += density[at][partner]
    for row, one in enumerate(elements):
        for column, other in enumerate(elements[: row + 1]):
            low, high = sorted((place[row], place[column]))
            written += _times(pairs[high, low], _mean(one.counts, other.counts))
    return "\n".join(written) + "\n"


def _take(words: Iterator[str], count: int) -> _Words:
    taken = list(itertools.islice(words, count))
    if len(taken) < count:
        raise ValueError("too short")
    return taken


def _times(words: Sequence[str], factor: float) -> _Words:
    """Numbers times a factor; the text itself where it is 1."""
    if factor == 1.0:
        return list(words)
    return [repr(factor * _number(word)) for word in words]


def _number(word: str) -> float:
    return float(word.replace("d", "e").replace("D", "e"))


class TripletFormat(NamedTuple):
    """Where the numbers of a triplet's entry are, counted from the first element's name."""

    length: int
    pair: tuple[int, ...]
    """Proportional to the energy of the pair of the first two."""
    central: tuple[int, ...]
    """Proportional to the many-body energy of the first."""
    pair_in_central: bool = False
    """The many-body energy is proportional to the numbers of the pair, too."""


TRIPLETS: Final[Mapping[str, TripletFormat]] = {
    "sw": TripletFormat(14, (3,), (6,), pair_in_central=True),
    "tersoff": TripletFormat(17, (16,), (12,)),
    "tersoff/mod": TripletFormat(20, (13,), (9,)),
    "tersoff/mod/c": TripletFormat(21, (13, 20), (9,)),
    "vashishta": TripletFormat(17, (3, 5, 8, 10), (12,)),
}
"""By style: Stillinger-Weber (epsilon; lambda, which epsilon multiplies), Tersoff (A; B), its
modifications (A and C; B), Vashishta (H, Z_i, D, W; B)."""


def counted_triplets(text: str, elements: Sequence[Counted], style: str) -> str:
    """A file of one of the styles of `TRIPLETS`.

    Raises:
        UnknownFormat: it is no such file, or lacks a triplet.
    """
    layout = TRIPLETS[style]
    words = [word for line in text.splitlines() for word in line.split("#")[0].split()]
    if len(words) % layout.length:
        raise UnknownFormat(f"its entries do not have {layout.length} words each")
    entries = [words[at : at + layout.length] for at in range(0, len(words), layout.length)]
    found = {tuple(entry[:3]): entry for entry in entries}
    written: list[str] = []
    for three in itertools.product(elements, repeat=3):
        names = tuple(element.name for element in three)
        entry = found.get(names)
        if entry is None:
            raise UnknownFormat(f"it has no entry {' '.join(names)}")
        made = _counted_entry(entry, three, layout)
        written.append(" ".join([*(element.label for element in three), *made[3:]]))
    return "\n".join(written) + "\n"


def _counted_entry(entry: _Words, three: Sequence[Counted], layout: TripletFormat) -> _Words:
    made = list(entry)
    one, other, third = three
    pair = _mean(one.counts, other.counts) if other == third else 1.0
    central = float(one.counts)
    if layout.pair_in_central and pair:
        central /= pair
    for at in layout.pair:
        made[at] = _times(made[at : at + 1], pair)[0]
    for at in layout.central:
        made[at] = _times(made[at : at + 1], central)[0]
    return made


def counted_uf3(text: str, elements: Sequence[Counted]) -> str:
    """A UF3 file with its two- and three-body blocks.

    Raises:
        UnknownFormat: it is no such file.
    """
    written: list[str] = []
    for head, title, body in _uf3_blocks(text):
        kind, *rest = title
        count = {"2B": 2, "3B": 3}.get(kind)
        if count is None or len(rest) < count:
            raise UnknownFormat(f"a block begins with {' '.join(title[:5])!r}")
        # numbers follow after cutoffs, knots and their count or shape
        start = 3 if count == 2 else 5
        for group in itertools.product(range(len(elements)), repeat=count):
            chosen = [elements[k] for k in group]
            names = [element.name for element in chosen]
            if names != rest[:count] or (names[-2] == names[-1] and group[-2] > group[-1]):
                continue  # other elements, or the same block the other way round
            one, other = chosen[:2]
            factor = _mean(one.counts, other.counts) if count == 2 else float(one.counts)
            labels = [element.label for element in chosen]
            written += [head, " ".join([kind, *labels, *rest[count:]]), *body[:start]]
            written += [" ".join(_times(line.split(), factor)) for line in body[start:]]
            written.append("#")
    return "\n".join(written) + "\n"


def _uf3_blocks(text: str) -> Iterator[tuple[str, _Words, list[str]]]:
    """First line, words of the second and the other lines of each block."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    at = 0
    while at < len(lines):
        end = next((k for k in range(at, len(lines)) if lines[k] == "#"), None)
        if not lines[at].startswith("#UF3") or end is None or end < at + 5:
            raise UnknownFormat("it does not consist of blocks from #UF3 to #")
        yield lines[at], lines[at + 1].split(), lines[at + 2 : end]
        at = end + 1


FORMATS: Final[Mapping[str, Callable[[str, Sequence[Counted]], str]]] = {
    "eam/alloy": partial(counted_setfl, finnis_sinclair=False),
    "eam/fs": partial(counted_setfl, finnis_sinclair=True),
    "uf3": counted_uf3,
    **{style: partial(counted_triplets, style=style) for style in TRIPLETS},
}
"""By pair style: the new file, from the text of the old one and the elements of the new one."""
EVERY_TYPE: Final = frozenset({"uf3"})
"""Styles that need an element of its own for each atom type: LAMMPS's UF3 finds coefficients for
the first type of a name only, and NULL ends the process."""
