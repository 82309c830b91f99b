"""The cheap potential of a new case: cheap.in, and the files that it names, beside it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from ase.data import atomic_numbers

from mixserver.core.errors import ConfigError
from mixserver.core.near_files import did_you_mean
from mixserver.new_case.lammps import worker
from mixserver.new_case.potential_files import (
    bundled,
    check_units,
    folders,
    holds_commands,
    read_lines,
    without_unused_variables,
)
from mixserver.wire.lammps_input import LammpsState
from mixserver.wire.worker import ModelCard

Files: TypeAlias = Literal["copy", "link"]

_POTENTIAL: Final = frozenset(
    {"pair_style", "pair_coeff", "pair_modify", "kspace_style", "kspace_modify", "dielectric"}
    | {"special_bonds", "labelmap", "variable", "include"}
)
"""What is taken out of a LAMMPS input; `mass` and `set` belong to its atoms."""
_BY_SUFFIX: Final = {
    ".eam.alloy": "eam/alloy",
    ".eam.fs": "eam/fs",
    ".sw": "sw",
    ".tersoff": "tersoff",
    ".tersoff.mod": "tersoff/mod",
    ".vashishta": "vashishta",
    ".uf3": "uf3 3",
    ".adp": "adp",
}
"""Pair styles of files that follow ``pair_coeff * *``, before the elements."""


@dataclass
class Potential:
    """A cheap potential."""

    lines: list[str]
    """Of cheap.in."""
    files: dict[str, Path] = field(default_factory=dict)
    """Name in the case's folder potential/ -> the user's file."""
    texts: dict[str, str] = field(default_factory=dict)
    """Name in potential/ -> text: included files, whose own file names were changed."""
    notes: list[str] = field(default_factory=list)


def read_potential(text: str, symbols: Sequence[str]) -> Potential:
    """The option --cheap: lines, a file of commands, a LAMMPS input, or a potential file.

    Args:
        text: the option.
        symbols: elements of the structure; atom types 1, 2, ... where a file names none.

    Raises:
        ConfigError: it is none of these, or a file is missing.
    """
    if re.match(r"\s*(pair_style|include|variable|labelmap)\s", text):
        lines = [line.strip() for line in re.split(r"[;\n]", text) if line.strip()]
        return _from_lines(lines, (Path.cwd(),), "the lines of --cheap")
    file = Path(text)
    shipped = bundled(text)
    if not file.is_file() and shipped is None:
        near = did_you_mean(file, Path.is_file)
        raise ConfigError(
            f"--cheap {text!r} is no file here, none of the potentials that come with LAMMPS"
            f"{'' if folders() else ' (which is not installed here)'}, and no line that begins "
            f"with pair_style{near or '.'} Give a file of LAMMPS commands, a LAMMPS input, a "
            "potential file, or the lines themselves: 'pair_style sw; pair_coeff * * Si.sw Si'"
        )
    own = file.is_file()
    path = file if own else shipped
    if path is not None and holds_commands(path):
        if not own:
            return Potential([f"include {path.name}"], notes=[f"{path.name} comes with LAMMPS"])
        commands = read_lines(path)
        return _from_lines(commands, (path.parent, Path.cwd()), path.name)
    return _of_file(path or file, own, symbols)


def potential_of_input(state: LammpsState, source: Path, elements: Sequence[str]) -> Potential:
    """The potential of a LAMMPS input that a worker read.

    Args:
        state: what it read.
        source: the input; its files are relative to its folder.
        elements: of atom types 1, 2, ...

    Raises:
        ConfigError: units other than metal, no potential, or two types that are one element and
            have parameters by number.
    """
    if state.units != "metal":
        raise ConfigError(
            f"{source} is in units {state.units}. Its atoms, times and temperatures are converted, "
            "but not the parameters of its potential: name one in units metal, --cheap"
        )
    chosen = [line for line in state.lines if line.use == "potential"]
    special = [line for line in state.lines if line.words[0] == "special_bonds"]
    if not any(line.words[0] == "pair_style" for line in chosen):
        raise ConfigError(f"{source} has no pair_style; name the cheap potential: --cheap")
    rows = [list(line.words) for line in (*chosen, *special)]
    used = [k for k in range(len(elements)) if k + 1 in set(state.types)]
    columns = [k for k in used if elements[k] not in [elements[j] for j in used if j < k]]
    kept = list(elements)
    if len(columns) < len(elements):
        reduced = _columns(rows, columns, len(elements))
        if reduced is not None:
            rows, kept = reduced, [elements[k] for k in columns]
        elif len(columns) < len(used):
            twins = [k + 1 for k in used if [elements[j] for j in used].count(elements[k]) > 1]
            raise ConfigError(
                f"{source}: atom types {' and '.join(map(str, twins))} are both "
                f"{elements[twins[0] - 1]}, and its pair_coeff lines tell them apart. Models and "
                "i-PI know elements only: give one element one type, or name the cheap potential, "
                "--cheap"
            )
    lines = [" ".join(_quoted(word) for word in words) for words in rows]
    names = " ".join(f"{k} {symbol}" for k, symbol in enumerate(kept, 1) if symbol != "X")
    made = _from_lines(lines, (source.absolute().parent,), source.name)
    made.lines.insert(0, f"labelmap atom {names}")
    if len(kept) < len(elements):
        made.notes.append(f"atom types, one for each element that there is: {', '.join(kept)}")
    return made


def write_potential(potential: Potential, folder: Path, how: Files) -> None:
    """Write cheap.in and potential/."""
    inner = folder / "potential"
    if potential.files or potential.texts:
        inner.mkdir()
    for name, text in potential.texts.items():
        (inner / name).write_text(text, encoding="utf-8")
    for name, file in potential.files.items():
        place(file, inner / name, how)
    head = "# The cheap potential, as LAMMPS commands in units metal"
    text = "\n".join([head, *potential.lines]) + "\n"
    (folder / "cheap.in").write_text(text, encoding="utf-8")


def place(file: Path, target: Path, how: Files) -> None:
    """Copy a file of the user, or make a link to it."""
    if how == "link":
        target.symlink_to(file.absolute())
    else:
        shutil.copyfile(file, target)


def describe(folder: Path, elements: Sequence[str]) -> ModelCard:
    """What a worker says of the case's cheap.in.

    Args:
        folder: the case.
        elements: of the structure; all of them must be known to it.

    Raises:
        ConfigError: LAMMPS refuses the potential, or it does not know an element.
    """
    said = worker(["describe", str(folder / "cheap.in")])
    try:
        card = msgspec.json.decode(said.strip().splitlines()[-1], type=ModelCard)
    except (msgspec.MsgspecError, IndexError) as error:
        raise ConfigError(f"the worker described the potential as {said!r}: {error}") from error
    from mixserver.core.labels import element_symbols  # noqa: PLC0415

    known = element_symbols(card.species or ())
    missing = [symbol for symbol in elements if symbol not in known]
    if missing:
        raise ConfigError(
            f"the cheap potential knows {', '.join(known)}, and the structure has "
            f"{', '.join(missing)} too; give a potential of every element"
        )
    return card


def _from_lines(lines: Sequence[str], here: tuple[Path, ...], source: str) -> Potential:
    made = Potential([])
    left_out: list[str] = []
    check_units(lines, source)
    for line in without_unused_variables(lines, _POTENTIAL):
        words = line.split()
        if words[0] not in _POTENTIAL:
            left_out.append(words[0])
            continue
        made.lines.append(_with_files(line, here, made))
    if not any(line.split()[0] in {"pair_style", "include"} for line in made.lines):
        raise ConfigError(f"{source} has no pair_style, so it defines no potential")
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        made.notes.append(f"of {source} only the potential was taken, not {names}")
    return made


def _with_files(line: str, here: tuple[Path, ...], made: Potential) -> str:
    """The line with files of the user renamed to where the case has them."""
    command, *words = line.split()
    if command in {"labelmap", "variable", "pair_modify", "special_bonds", "dielectric"}:
        return line
    for word in dict.fromkeys(words):
        bare = word.strip("\"'")
        file = next((p / bare for p in here if bare and (p / bare).is_file()), None)
        if file is None:
            if "$" in word and ("/" in word or "." in word):
                raise ConfigError(
                    f"{line!r}: the file name contains a variable, so it cannot be copied; write "
                    "the name itself"
                )
            continue
        name = file.name
        if command == "include":
            inner = Potential([])
            made.texts[name] = "\n".join(
                _with_files(one, (file.parent, *here), inner).replace("potential/", "")
                for one in read_lines(file)
            )
            made.files |= inner.files
            made.texts |= inner.texts
        elif made.files.setdefault(name, file) != file:
            raise ConfigError(
                f"{made.files[name]} and {file} have one name, and both would go into potential/; "
                "rename one"
            )
        line = line.replace(word, f"potential/{name}")
    return line


def _of_file(path: Path, own: bool, symbols: Sequence[str]) -> Potential:
    """A potential file after which nothing but elements is missing."""
    suffix = next(
        (s for s in sorted(_BY_SUFFIX, key=len, reverse=True) if path.name.endswith(s)), ""
    )
    name = f"potential/{path.name}" if own else path.name
    note = f"{path.name} comes with LAMMPS" if not own else ""
    if path.name.endswith((".snapcoeff", ".snapparam")):
        base = path.name.rpartition(".")[0]
        prefix = "potential/" if own else ""
        made = Potential(
            [
                "pair_style snap",
                f"pair_coeff * * {prefix}{base}.snapcoeff {prefix}{base}.snapparam "
                + " ".join(symbols),
            ]
        )
        if own:
            for ending in (".snapcoeff", ".snapparam"):
                made.files[base + ending] = path.with_name(base + ending)
                if not path.with_name(base + ending).is_file():
                    raise ConfigError(f"{path}: there is no {base}{ending} beside it")
        made.notes.append(
            "SNAP files are often used together with a pair potential (zbl): look whether a .snap "
            "file of that name says so"
        )
        return made
    if not suffix:
        known = ", ".join([*_BY_SUFFIX, ".snapcoeff"])
        raise ConfigError(
            f"--cheap {path.name}: which pair_style reads it cannot be told from its name (known "
            f"are {known}); write the lines: --cheap 'pair_style STYLE; pair_coeff * * {path.name} "
            f"{' '.join(symbols)}'"
        )
    style = _BY_SUFFIX[suffix]
    lines = [f"pair_style {style}", f"pair_coeff * * {name} {' '.join(symbols)}"]
    said = [f"pair_style {style}, from the file's name", *filter(None, [note])]
    return Potential(lines, {path.name: path} if own else {}, notes=said)


def _columns(rows: list[list[str]], columns: list[int], n: int) -> list[list[str]] | None:
    """Lines for some of n atom types; None if a line does not end in one name for each type."""
    made = []
    for words in rows:
        if words[0] != "pair_coeff":
            made.append(words)
            continue
        names = words[-n:]
        named = all(name == "NULL" or name in atomic_numbers for name in names)
        if words[1:3] != ["*", "*"] or len(words) < n + 3 or not named:
            return None
        made.append([*words[:-n], *(names[k] for k in columns)])
    return made


def _quoted(word: str) -> str:
    return f'"{word}"' if re.search(r"\s", word) else word
