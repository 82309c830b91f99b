"""Split a potential into SNAPs, many-body terms and a pairwise remainder, from its commands.

Each SNAP and each many-body style that `counted_files` knows gets commands of its own. All other
styles stay together and must be pairwise, which `scheme` checks. The sum of the terms is the
potential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mixserver_worker.engines.lammps.text import quoted, words_of
from mixserver_worker.engines.lammps.weighting.atom_types import (
    elements_of_types,
    no_pairs_of_zeros,
)
from mixserver_worker.engines.lammps.weighting.counted_files import FORMATS

_OVERLAY: Final = "hybrid/overlay"
_TYPED: Final = frozenset({"labelmap", "mass", "set", "pair_modify", "kspace_style"})
"""Commands that lose their meaning once atom types stand for weights; SNAP needs none."""
SHORT: Final = 0.5
"""Å. Cutoff of the pair style zero, which only defines pairs of types that LAMMPS requires."""


class NotWeightable(Exception):  # no error: the potential works without weights
    """The site energies of this potential cannot be weighted; the message is the reason."""


@dataclass(frozen=True, slots=True)
class SnapTerm:
    """One SNAP of the potential."""

    common: tuple[str, ...]
    """Commands other than pair_style and pair_coeff, e.g. variables."""
    files: str
    """Coefficient and parameter files, as in the user's pair_coeff."""
    names: tuple[str | None, ...]
    """Name of atom type 1, 2, ... in its files; None for types invisible to it."""

    @property
    def visible(self) -> tuple[int, ...]:
        """The user's atom types that it has, counted from 0."""
        return tuple(type_ for type_, name in enumerate(self.names) if name is not None)

    def names_of_types(self, room: Sequence[int]) -> list[str]:
        """The name of atom type 2, 3, ... in its files, as `atom_types` orders them."""
        names = [name for name in self.names if name is not None]
        return [names[element] for element in elements_of_types(room)]

    def style_commands(self) -> tuple[str, ...]:
        """Commands before `coefficient_commands`."""
        return *self.common, f"pair_style {_OVERLAY} zero {SHORT} snap"

    def coefficient_commands(
        self, room: Sequence[int], files: str | None = None, blocks: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Commands for the atom types of `names_of_types`.

        Args:
            room: types of any weight per element.
            files: other files of coefficients and parameters.
            blocks: name of atom type 2, 3, ... in these files.
        """
        return (
            "pair_coeff * * zero",
            f"pair_coeff * * snap {files or self.files} NULL "
            + " ".join(blocks or self.names_of_types(room)),
            *no_pairs_of_zeros(len(self.visible)),
        )


@dataclass(frozen=True, slots=True)
class ManyBodyTerm:
    """One many-body style of the potential."""

    common: tuple[str, ...]
    """Commands other than pair_style and pair_coeff, e.g. variables."""
    style: str
    """With its settings, e.g. "uf3 3"."""
    file: str
    """Of its coefficients."""
    names: tuple[str | None, ...]
    """Name of atom type 1, 2, ... in its file; None for types invisible to it."""

    @property
    def name(self) -> str:
        """The style without settings."""
        return self.style.split()[0]

    @property
    def visible(self) -> tuple[int, ...]:
        """The user's atom types that it has, counted from 0."""
        return tuple(type_ for type_, name in enumerate(self.names) if name is not None)

    def alone(self) -> tuple[str, ...]:
        """Commands of this term alone, for the user's atom types."""
        names = " ".join(name or "NULL" for name in self.names)
        return (
            *self.common,
            f"pair_style {_OVERLAY} zero {SHORT} {self.style}",
            "pair_coeff * * zero",
            f"pair_coeff * * {self.name} {quoted(self.file)} {names}",
        )


@dataclass(frozen=True, slots=True)
class SplitPotential:
    """A potential as a sum of SNAPs, many-body terms and a pairwise remainder."""

    snaps: tuple[SnapTerm, ...]
    pairwise: tuple[str, ...] | None
    """Commands of all other styles, with the user's atom types; None if there are none."""
    many_body: tuple[ManyBodyTerm, ...] = ()


def split_potential(
    after_box: Sequence[str], types: int, is_style: Callable[[str], bool]
) -> SplitPotential:
    """Split a potential.

    Args:
        after_box: the user's commands, with variables evaluated.
        types: number of atom types.
        is_style: whether a word is a pair style of this LAMMPS.

    Raises:
        NotWeightable: a SNAP or a many-body term cannot be separated from the rest.
    """
    lines = [(text, words_of(text)) for text in after_box]
    styles = [words[1:] for _, words in lines if words[0] == "pair_style"]
    last = styles[-1]
    listed = (
        _sub_styles(last[1:], is_style) if _without_suffix(last[0]).startswith("hybrid") else [last]
    )
    names = [_without_suffix(words[0]) for words in listed]
    split = {"snap", *FORMATS} & set(names)
    if not split:
        return SplitPotential((), tuple(after_box))
    if len(styles) > 1:
        raise NotWeightable("pair_style is given more than once; give only the last one")
    if listed != [last] and _without_suffix(last[0]) != _OVERLAY:
        raise NotWeightable(f"pair_style {last[0]} cannot be split; use {_OVERLAY}")
    if any(words[0] == "neigh_modify" and "exclude" in words for _, words in lines):
        raise NotWeightable(
            "neigh_modify exclude refers to atom types, which stand for weights here"
        )
    common = [text for text, words in lines if not words[0].startswith("pair_")]
    kept = tuple(text for text in common if text.split()[0] not in _TYPED)
    coefficients = [words[1:] for _, words in lines if words[0] == "pair_coeff"]
    alone = listed == [last]
    snaps: list[SnapTerm] = []
    many_body: list[ManyBodyTerm] = []
    for words, name, count in zip(listed, names, _counts(names), strict=True):
        mine = coefficients if alone else _lines_for(words[0], count, coefficients)
        if name == "snap":
            snaps.append(_snap(kept, mine, types))
        elif name in split:
            many_body.append(_many_body(kept, [name, *words[1:]], mine, types))
    rest = [
        words for words, name in zip(listed, names, strict=True) if name not in split | {"zero"}
    ]
    if not rest:
        return SplitPotential(tuple(snaps), None, tuple(many_body))
    pairwise = [
        *common,
        f"pair_style {_OVERLAY} {_joined(word for words in rest for word in words)} zero {SHORT}",
        "pair_coeff * * zero",
    ]
    for text, words in lines:
        if words[0] == "pair_coeff" and _without_suffix(words[3]) not in split | {"zero"}:
            pairwise.append(text)
        if words[0] == "pair_modify" and not split & {_without_suffix(word) for word in words}:
            pairwise.append(text)
    return SplitPotential(tuple(snaps), tuple(pairwise), tuple(many_body))


def _without_suffix(style: str) -> str:
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
    """The number by which pair_coeff identifies a style that occurs several times, else ""."""
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


def _snap(common: tuple[str, ...], lines: Sequence[list[str]], types: int) -> SnapTerm:
    if not lines or lines[-1][:2] != ["*", "*"] or len(lines[-1]) != 4 + types:
        raise NotWeightable("its SNAP lacks a line pair_coeff * * snap FILE FILE ELEMENTS")
    words = lines[-1]
    names = tuple(None if word == "NULL" else word for word in words[4:])
    return SnapTerm(common, _joined(words[2:4]), names)


def _many_body(
    common: tuple[str, ...], style: Sequence[str], lines: Sequence[list[str]], types: int
) -> ManyBodyTerm:
    if len(lines) != 1 or lines[0][:2] != ["*", "*"] or len(lines[0]) != 3 + types:
        raise NotWeightable(
            f"its {style[0]} lacks a single line pair_coeff * * {style[0]} FILE ELEMENTS"
        )
    names = tuple(None if word == "NULL" else word for word in lines[0][3:])
    return ManyBodyTerm(common, _joined(style), lines[0][2], names)


def _joined(words: Iterable[str]) -> str:
    return " ".join(quoted(word) for word in words)
