"""A potential taken apart, so that its site energies can be weighted. Knows text, no LAMMPS.

Each SNAP becomes commands of its own with as many atom types as there are weights; everything
else is kept together and must be pairwise. The sum of the parts is the potential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from clients.engines.lammps_words import quoted, words_of

_OVERLAY: Final = "hybrid/overlay"
_TYPED: Final = frozenset({"labelmap", "mass", "set", "pair_modify", "kspace_style"})
"""Commands that make no sense once atom types stand for weights; SNAP needs none of them."""
_SHORT: Final = 0.5
"""Å. Cutoff of the pair style zero where LAMMPS only wants every pair of types to be known."""


class NoWay(Exception):  # not an error of the user: the potential works, but not with weights
    """The site energies of this potential cannot be weighted; the message says why."""


@dataclass(frozen=True, slots=True)
class Snap:
    """One SNAP of the potential."""

    common: tuple[str, ...]
    """Commands other than pair_style and pair_coeff, e.g. variables."""
    files: str
    """Coefficient and parameter files, as in the user's pair_coeff."""
    names: tuple[str | None, ...]
    """Which element of its files atom type 1, 2, ... is; None where SNAP does not see it."""

    @property
    def seen(self) -> tuple[int, ...]:
        """The user's atom types that it sees, counted from 0."""
        return tuple(kind for kind, name in enumerate(self.names) if name is not None)

    def spread(self, room: Sequence[int]) -> list[str]:
        """The element of atom type 2, 3, ...

        Atom type 1 is invisible. Then come, for each element seen, two types (weight 0, weight
        1) and after those of all elements `room` types (any weight) per element in turn.
        """
        names = [name for name in self.names if name is not None]
        spread = [name for name in names for _ in range(2)]
        return spread + [n for n, count in zip(names, room, strict=True) for _ in range(count)]

    def styles(self) -> tuple[str, ...]:
        """Commands before `coefficients`."""
        return *self.common, f"pair_style {_OVERLAY} zero {_SHORT} snap"

    def coefficients(
        self, room: Sequence[int], files: str | None = None, blocks: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Commands for the atom types of `spread`.

        Two atoms of weight 0 do not see each other, because nobody needs to know.

        Args:
            room: as of `spread`.
            files: other files of coefficients and parameters.
            blocks: which part of these files stands for atom type 2, 3, ...
        """
        zeros = [2 + 2 * k for k in range(len(self.seen))]
        lines = [
            "pair_coeff * * zero",
            f"pair_coeff * * snap {files or self.files} NULL "
            + " ".join(blocks or self.spread(room)),
        ]
        for one in zeros:
            for other in zeros:
                if one <= other:
                    lines += [f"pair_coeff {one} {other} none", f"pair_coeff {one} {other} zero"]
        return tuple(lines)


@dataclass(frozen=True, slots=True)
class Parts:
    """A potential as a sum of SNAPs and of one pairwise remainder."""

    snaps: tuple[Snap, ...]
    pairwise: tuple[str, ...] | None
    """Commands of everything else, with the user's atom types; None if that is nothing."""


def parts_of(after_box: Sequence[str], kinds: int, is_style: Callable[[str], bool]) -> Parts:
    """Take the potential apart.

    Args:
        after_box: the user's commands, with values in the place of variables.
        kinds: the number of atom types.
        is_style: whether a word names a pair style of this LAMMPS.

    Raises:
        NoWay: it has a SNAP that cannot be separated from the rest.
    """
    lines = [(text, words_of(text)) for text in after_box]
    styles = [words[1:] for _, words in lines if words[0] == "pair_style"]
    last = styles[-1]
    listed = _sub_styles(last[1:], is_style) if _plain(last[0]).startswith("hybrid") else [last]
    names = [_plain(words[0]) for words in listed]
    if "snap" not in names:
        return Parts((), tuple(after_box))
    if len(styles) > 1:
        raise NoWay("pair_style is given more than once; give only the last one")
    if listed != [last] and _plain(last[0]) != _OVERLAY:
        raise NoWay(f"pair_style {last[0]} cannot be taken apart; use {_OVERLAY}")
    if any(words[0] == "neigh_modify" and "exclude" in words for _, words in lines):
        raise NoWay("neigh_modify exclude cannot be kept when atom types stand for weights")
    common = [text for text, words in lines if not words[0].startswith("pair_")]
    kept = tuple(text for text in common if text.split()[0] not in _TYPED)
    coefficients = [words[1:] for _, words in lines if words[0] == "pair_coeff"]
    alone = listed == [last]
    snaps = [
        _snap(kept, coefficients if alone else _lines_for(words[0], count, coefficients), kinds)
        for words, count in zip(listed, _counts(names), strict=True)
        if _plain(words[0]) == "snap"
    ]
    rest = [words for words in listed if _plain(words[0]) not in ("snap", "zero")]
    if not rest:
        return Parts(tuple(snaps), None)
    pairwise = [
        *common,
        f"pair_style {_OVERLAY} {_joined(word for words in rest for word in words)} zero {_SHORT}",
        "pair_coeff * * zero",
    ]
    for text, words in lines:
        if words[0] == "pair_coeff" and _plain(words[3]) not in ("snap", "zero"):
            pairwise.append(text)
        if words[0] == "pair_modify" and "snap" not in words:
            pairwise.append(text)
    return Parts(tuple(snaps), tuple(pairwise))


def _plain(style: str) -> str:
    return re.sub(r"/(kk|kk/host|kk/device|omp|gpu|intel|opt)$", "", style)


def _sub_styles(words: Sequence[str], is_style: Callable[[str], bool]) -> list[list[str]]:
    """The styles of a hybrid with their settings: each begins with the name of a style."""
    found: list[list[str]] = []
    for word in words:
        if not found or is_style(word):
            found.append([])
        found[-1].append(word)
    return found


def _counts(names: Sequence[str]) -> list[str]:
    """The number pair_coeff tells a style by that occurs several times, else nothing."""
    return [
        str(names[: k + 1].count(name)) if names.count(name) > 1 else ""
        for k, name in enumerate(names)
    ]


def _lines_for(style: str, count: str, coefficients: Sequence[list[str]]) -> list[list[str]]:
    """The pair_coeff lines of one style of a hybrid, without its name and number."""
    start = [style, count] if count else [style]
    size = len(start)
    mine = [words for words in coefficients if words[2 : 2 + size] == start]
    return [[*words[:2], *words[2 + size :]] for words in mine]


def _snap(common: tuple[str, ...], lines: Sequence[list[str]], kinds: int) -> Snap:
    if not lines or lines[-1][:2] != ["*", "*"] or len(lines[-1]) != 4 + kinds:
        raise NoWay("its SNAP has no line like pair_coeff * * snap FILE FILE ELEMENTS")
    words = lines[-1]
    names = tuple(None if word == "NULL" else word for word in words[4:])
    return Snap(common, _joined(words[2:4]), names)


def _joined(words: Iterable[str]) -> str:
    return " ".join(quoted(word) for word in words)
