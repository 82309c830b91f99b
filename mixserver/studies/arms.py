"""The arms of a study: one case with all atoms expensive, all cheap, or mixed.

All arms have the same structure, workers (so the same engine) and input for i-PI, unless the
study changes them on purpose. An arm's case is written as a folder, which `mixserver run`,
`check`, `plot` and `report` take like any other.
"""

from __future__ import annotations

import os
import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import tomli_w

from mixserver.analysis.checks.files import check_files
from mixserver.config import Case, Local, load_case
from mixserver.config.load import parse
from mixserver.config.region_schema import AtomSeeds, Region
from mixserver.core.atomic_write import write_atomically
from mixserver.core.cell import plane_spacings
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.ipi.edit import apply_edits, text_elements
from mixserver.server.run_folder import relocated

Kind = Literal["all-expensive", "all-cheap", "energy", "force"]
KINDS: Final[dict[Kind, str]] = {
    "all-expensive": "all atoms expensive",
    "all-cheap": "all atoms cheap",
    "energy": "mixed by energies",
    "force": "mixed by forces",
}
"""Kinds of arms, and their names in tables."""
_ALONE: Final = {"all-expensive": "expensive", "all-cheap": "cheap"}
_OF_MIXING: Final = ("region", "mixing")
_OF_RUNS: Final = ("record", "status")
"""Left out where the arm itself does not have them."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to evaluate the forces of a case."""

    kind: Kind
    name: str = ""
    """Of files and tables; "" for that of its kind."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Keys of mix.toml with other values, table by table: {"region": {"core_radius": 6.0}}; None
    removes a key. Those of [region] and [mixing] are left out where one model is alone."""

    @property
    def label(self) -> str:
        """Its name."""
        return self.name or self.kind

    def settings(self, base: Case, workers: Sequence[Local]) -> dict[str, Any]:
        """The tables of its mix.toml, with absolute paths.

        Raises:
            ConfigError: the case has no worker of a role that the arm needs.
        """
        text = base.file.read_text(encoding="utf-8")
        tables: dict[str, Any] = tomllib.loads(text)
        for name in _OF_RUNS:
            tables.pop(name, None)
        tables["upstream"]["structure"] = str(base.structure.resolve())
        changes = dict(self.changes)
        if self.kind in _ALONE:
            role = _ALONE[self.kind]
            tables["models"] = {role: tables["models"].get(role, {})}
            for name in _OF_MIXING:
                tables.pop(name, None)
                changes.pop(name, None)
            roles = {role}
        else:
            if "region" not in tables:
                raise ConfigError(f"{base.file} has no [region], so nothing can be mixed")
            tables.setdefault("mixing", {})["kind"] = self.kind
            if self.kind == "force":
                tables["mixing"].pop("dead_loads", None)
                tables["region"].pop("follow", None)  # it follows anyway
            roles = {"cheap", "expensive"}
        if missing := roles - {one.role for one in workers}:
            raise ConfigError(
                f"{base.file} has no [[local]] worker with role = {sorted(missing)[0]!r}, which "
                f"the arm {self.label} needs"
            )
        tables["local"] = [msgspec.to_builtins(one) for one in workers if one.role in roles]
        return _merged(tables, changes)


def _merged(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with some values changed; None removes one."""
    found = dict(tables)
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(found.get(name), Mapping):
            # a table of another kind (seeds) is not what is left of the one before
            other = "kind" in value and value["kind"] != found[name].get("kind")
            found[name] = dict(value) if other else _merged(found[name], value)
        else:
            found[name] = value
    return found


def write_case(
    folder: Path,
    base: Case,
    arm: Arm,
    workers: Sequence[Local],
    values: Mapping[str, str] | None = None,
    *,
    text: bytes | None = None,
) -> Case:
    """Write the case of an arm into a folder of its own.

    Args:
        folder: made if it does not exist; its mix.toml and input.xml are replaced.
        base: the study's case.
        arm: what differs from it.
        workers: see `study_workers`.
        values: texts of elements of i-PI's input, by tag: {"seed": "7", "total_steps": "500"}.
        text: i-PI's input; None for that of the base. Files that it names lie in the base's folder
            or in `folder`.

    Raises:
        ConfigError: the base's files cannot be read, a tag is not there exactly once, or the
            settings contradict each other.
    """
    source = base.folder / base.config.ipi.input
    if text is None:
        try:
            text = source.read_bytes()
        except OSError as error:
            raise ConfigError(f"i-PI's input {source} cannot be read: {error.strerror}") from error
    folder.mkdir(parents=True, exist_ok=True)
    tables = arm.settings(base, workers)
    tables["ipi"] = {**tables.get("ipi", {}), "input": "input.xml"}
    mix = tomli_w.dumps(tables)
    parse(mix, f"mix.toml of the arm {arm.label}")
    filled = relocated(with_values(text, values or {}, source), source, folder)
    write_atomically(folder / "mix.toml", mix.encode())
    write_atomically(folder / "input.xml", filled)
    return load_case(folder)


def thermostatted_values(structure: Path, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Values for i-PI's input, as `write_case` takes them, of a trajectory with a thermostat.

    It begins with velocities of twice the temperature, for half of that goes into the potential
    energy. Tasks of one temperature and repeat have the same random numbers in all arms.

    Args:
        structure: file of the start.
        parameters: of the task: temperature (K), repeat, steps, timestep_fs, thermostat_fs.
    """
    kelvin = parameters["temperature"]
    seed = zlib.crc32(f"{kelvin:g} K {parameters['repeat']}".encode()) % 2**31
    return {
        "file": str(structure),
        "seed": str(seed),
        "total_steps": str(parameters["steps"]),
        "velocities": f"{2.0 * kelvin:g}",
        "temperature": f"{kelvin:g}",
        "timestep": f"{parameters['timestep_fs']:g}",
        "tau": f"{parameters['thermostat_fs']:g}",
    }


def with_values(text: bytes, values: Mapping[str, str], source: Path) -> bytes:
    """An i-PI input with other texts in some elements, by tag.

    Raises:
        ConfigError: a tag is not there exactly once.
    """
    elements = text_elements(text, source)
    changes = []
    for tag, value in values.items():
        places = [(begin, end) for name, begin, end in elements if name == tag]
        if len(places) != 1:
            raise ConfigError(
                f"{source} must have one <{tag}> with text for a study to set it, but has "
                f"{len(places)}"
            )
        changes.append((*places[0], f" {value} ".encode()))
    return apply_edits(text, changes)


def check_arm(case: Case) -> None:
    """Check everything of an arm's case that can be seen in files, before anything is run.

    Raises:
        ConfigError: a model does not exist or lacks an element, the region does not fit into the
            cell, or what else a run would refuse.
    """
    findings, topology, start = check_files(case)
    wrong = [f"{found.what}: {found.message}" for found in findings if found.level == "error"]
    if wrong:
        more = f" (and {len(wrong) - 1} more: mixserver check {case.folder})" if wrong[1:] else ""
        raise ConfigError(f"{case.file}: {wrong[0]}{more}")
    region = case.config.region
    if region is None or topology is None or start is None:
        return
    reach = region.core_radius + region.blend_width
    heights, spans = plane_spacings(start.cell), _line(region, start)
    for axis, high, repeats, line in zip("abc", heights, topology.pbc, spans, strict=True):
        if repeats and high < 2.0 * reach and not line:
            raise ConfigError(
                f"{case.file}: the cell is {high:.2f} Å high along {axis}, but core and blend of "
                f"one seed need {2.0 * reach:.2f} Å ({region.core_radius:g} + "
                f"{region.blend_width:g} Å to each side), so the region would meet its own image. "
                "Take a larger cell or smaller radii"
            )


def _line(region: Region, start: Frame) -> tuple[bool, ...]:
    """Along which vectors of the cell seed atoms are a line that goes on in the next image.

    There must be several, with no gap as large as the radius of the core.
    """
    seeds = region.seeds
    if not isinstance(seeds, AtomSeeds) or len(seeds.indices) < 2:
        return (False, False, False)
    inside = np.linalg.solve(start.cell.T, start.positions[list(seeds.indices)].T) % 1.0
    inside.sort(axis=1)
    gaps = np.diff(inside, axis=1, append=inside[:, :1] + 1.0).max(axis=1)
    return tuple((gaps * plane_spacings(start.cell) < region.core_radius).tolist())


def relative(folder: Path) -> str:
    """A folder's name for messages."""
    return os.path.relpath(folder)
