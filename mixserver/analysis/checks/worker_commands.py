"""The commands of local workers: engines, options, files and elements, before they are started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Final

from mixserver.analysis.checks.findings import Finding
from mixserver.config import Case, Local, Model
from mixserver.core.environment import without_batch
from mixserver.core.errors import ConfigError, ProtocolError
from mixserver.core.frame import Topology
from mixserver.core.labels import element_symbols, unknown_elements
from mixserver.core.processes import environment_program
from mixserver.mixing.model_capabilities import ModelCapabilities, check_weightable
from mixserver.server.mixers import lambda_moves
from mixserver.wire.worker import ModelCard
from mixserver.wire.worker_validation import WorkerValidation, from_json

_LONGEST_S: Final = 120.0


def worker_command_findings(case: Case, topology: Topology) -> list[Finding]:
    """Commands of [[local]] workers that cannot run or do not fit the case, and potentials read.

    Args:
        case: the case.
        topology: its atoms.
    """
    found: list[Finding] = []
    for local in case.config.local:
        try:
            seen = _validate(case, local)
        except (ConfigError, ProtocolError) as error:
            found.append(Finding("warning", f"{local.role} worker", str(error)))
            continue
        found += _of_worker(case, local, topology, seen)
    return list(dict.fromkeys(found))


def _of_worker(
    case: Case, local: Local, topology: Topology, seen: WorkerValidation
) -> Iterator[Finding]:
    what, words = f"{local.role} worker", " ".join(local.command)
    if seen.not_installed:
        yield Finding("warning", what, f"{words}: {seen.problem}")
    elif seen.problem:
        yield Finding("error", what, f"[[local]] command {words}: {seen.problem}")
    if seen.model is not None:
        yield from _of_model(case, local, topology, seen.model)


def _of_model(case: Case, local: Local, topology: Topology, card: ModelCard) -> Iterator[Finding]:
    what = f"{local.role} potential"
    known = ", ".join(element_symbols(card.species or ()))
    if unknown := unknown_elements(topology.numbers, card.species):
        words = (
            f"{card.name} knows {known}, and the structure has {', '.join(unknown)} too; give a "
            "potential of every element"
        )
        yield Finding("error", what, words)
        return
    table, models = case.config.region, case.config.models
    if table is not None and case.config.mixing.kind == "energy":
        stated = (models.cheap if local.role == "cheap" else models.expensive) or Model()
        capable = ModelCapabilities.of(card, stated.receptive_field)
        try:
            check_weightable(local.role, capable, lambda_moves(table))
        except ConfigError as error:
            yield Finding("error", what, str(error))
            return
    cutoff = "" if card.cutoff is None else f", cut-off {card.cutoff:g} Å"
    yield Finding("ok", what, f"{card.name}: LAMMPS reads it, for {known}{cutoff}", card.cutoff)


def _validate(case: Case, local: Local) -> WorkerValidation:
    """What `mixserver-worker validate` says, in the case's folder.

    Raises:
        ConfigError: it is not installed, did not end, or failed.
        ProtocolError: it printed something else.
    """
    try:
        done = subprocess.run(
            [environment_program("mixserver-worker"), "validate", "--", *local.command],
            capture_output=True,
            timeout=_LONGEST_S,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=case.folder,
            env={**without_batch(os.environ), "OMP_NUM_THREADS": "1", **local.environment},
        )
    except FileNotFoundError as error:
        raise ConfigError(
            "mixserver-worker is not installed here, so no [[local]] worker can be started: "
            'pip install -e ".[lammps,mace]"'
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"was not validated: no answer within {_LONGEST_S:.0f} s") from error
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"was not validated: {text[-1] if text else done.returncode}")
    return from_json(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else b"")
