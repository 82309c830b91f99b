"""The model files that local MACE workers will load, looked at without running anything in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from ase.data import chemical_symbols

from mixserver.analysis.checks.findings import Finding, Level
from mixserver.analysis.model_file import ModelFacts, read_model_file
from mixserver.config import Case, Local
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Topology

_SLACK: Final = 1e-6
"""Å by which a stated receptive field may be too short: files have single precision."""


def model_file_findings(case: Case, topology: Topology) -> list[Finding]:
    """What the model files of [[local]] workers say, and whether it fits the case.

    Args:
        case: the case.
        topology: its atoms.
    """
    found: list[Finding] = []
    for local in case.config.local:
        if local.command[:1] == ("mace",):
            found += _of_worker(case, local, topology)
    return found


def _of_worker(case: Case, local: Local, topology: Topology) -> Iterator[Finding]:
    name, options = _words(local.command[1:])
    if not name or ":" in name:  # a published model: mace-torch downloads it
        return
    what = f"{local.role} model file"
    try:
        facts = read_model_file(case.folder / name)
    except ConfigError as error:
        yield Finding("error", what, str(error))
        return
    dtype = options.get("--dtype", "float64")
    computed = facts.dtype if dtype == "model" else dtype
    yield Finding(
        "ok",
        what,
        f"{name}: {facts.kind} for {_listed(facts.species)}, cut-off {facts.cutoff:g} Å x "
        f"{facts.layers} layers, weights in {facts.dtype}, computed in {computed} (read without "
        "running it; a worker does run it)",
        facts.cutoff,
    )
    for level, words in _problems(case, local, topology, facts, options):
        yield Finding(level, what, f"{name}: {words}")


def _problems(
    case: Case, local: Local, topology: Topology, facts: ModelFacts, options: dict[str, str]
) -> Iterator[tuple[Level, str]]:
    unknown = np.setdiff1d(topology.numbers, facts.species)
    if unknown.size:
        yield (
            "error",
            f"it knows {_listed(facts.species)}, and the structure has {_listed(unknown)} too; "
            "give a model of every element",
        )
    if len(facts.heads) > 1 and options.get("--head") not in facts.heads:
        yield (
            "error",
            f"it has the heads {', '.join(map(repr, facts.heads))}; name one of them with --head",
        )
    models = case.config.models
    stated = models.cheap if local.role == "cheap" else models.expensive
    field = None if stated is None else stated.receptive_field
    if field is not None and field < facts.receptive_field - _SLACK:
        yield (
            "error",
            f"its site energies look {facts.receptive_field:g} Å far ({facts.layers} layers), but "
            f"models.{local.role}.receptive_field is {field:g} Å; leave that out",
        )
    if facts.foreign:
        yield (
            "warning",
            f"it names {', '.join(facts.foreign[:5])}, which no MACE model needs: loading it may "
            "run a program that somebody has put in. Ask its author before you start a worker",
        )


def _words(command: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The model of a worker's command, and its options, which all have a value."""
    name, options = "", {}
    words = iter(command)
    for word in words:
        if not word.startswith("--"):
            name = name or word
        elif "=" in word:
            key, _, value = word.partition("=")
            options[key] = value
        else:
            options[word] = next(words, "")
    return name, options


def _listed(numbers: Sequence[int] | np.ndarray[Any, Any]) -> str:
    symbols = dict(enumerate(chemical_symbols))
    return ", ".join(symbols.get(int(z), str(z)) for z in numbers)
