"""In what precision LAMMPS computes, by its command line switches. Asks the library only."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

_SUFFIX: Final = ("-sf", "-suffix")
_PACKAGE: Final = ("-pk", "-package")
_BUILT: Final = {"kk": "KOKKOS", "gpu": "GPU"}
"""Packages whose precision is chosen when LAMMPS is built."""


class Build(Protocol):
    """What a LAMMPS library says of itself."""

    def accelerated(self, package: str, category: str, setting: str) -> bool:
        """Whether an accelerator package was built so."""


def inexact(
    build: Build, arguments: Sequence[str], commands: Iterable[str] = ()
) -> tuple[str, ...]:
    """What is computed in less than double precision, e.g. ("gpu mixed",); else nothing.

    Where it is computed (serial, OpenMP, a GPU) does not matter: that is the same potential.

    Args:
        build: the library.
        arguments: LAMMPS's command line switches.
        commands: those before the box; ``suffix`` and ``package`` count.
    """
    lines = [["suffix", *words] for words in _after(_SUFFIX, arguments)]
    lines += [["package", *words] for words in _after(_PACKAGE, arguments)]
    lines += [text.split() for text in commands]
    suffixes = {word for line in lines if line[0] == "suffix" for word in line[1:]}
    found = [
        f"{suffix} {precision}"
        for suffix, package in _BUILT.items()
        for precision in ("single", "mixed")
        if suffix in suffixes and build.accelerated(package, "precision", precision)
    ]
    if "intel" in suffixes:
        modes = [
            mode
            for line in lines
            if line[:2] == ["package", "intel"]
            for key, mode in itertools.pairwise(line)
            if key == "mode"
        ]
        mode = modes[-1] if modes else "mixed"  # LAMMPS's default
        found += [f"intel {mode}"] if mode != "double" else []
    return tuple(found)


def _after(switches: Sequence[str], arguments: Sequence[str]) -> Iterator[list[str]]:
    """The words after each of some switches, up to the next switch."""
    taken: list[str] | None = None
    for word in arguments:
        if word.startswith("-") and not word[1:2].isdigit():
            if taken is not None:
                yield taken
            taken = [] if word in switches else None
        elif taken is not None:
            taken.append(word)
    if taken is not None:
        yield taken
