"""Precision in which LAMMPS computes, from its build and its command line switches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from mixserver_worker.engines.lammps.library import LammpsLibrary
from mixserver_worker.engines.lammps.text import split_switches

_COMMANDS: Final = {"-sf": "suffix", "-suffix": "suffix", "-pk": "package", "-package": "package"}
"""Commands that some switches stand for."""
_BUILT: Final = {"kk": "KOKKOS", "gpu": "GPU"}
"""Packages whose precision is chosen when LAMMPS is built."""


def reduced_precision(
    build: LammpsLibrary, arguments: Sequence[str], commands: Iterable[str] = ()
) -> tuple[str, ...]:
    """What is computed in less than double precision, e.g. ("gpu mixed",).

    The device (serial, OpenMP, a GPU) does not matter: the potential is the same.

    Args:
        build: the library.
        arguments: LAMMPS's command line switches.
        commands: those before the box; ``suffix`` and ``package`` count.
    """
    lines = [
        [_COMMANDS[switch], *words]
        for switch, *words in split_switches(arguments)
        if switch in _COMMANDS
    ]
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
