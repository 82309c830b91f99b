"""Overlaid pair styles of LAMMPS: reads those of a fixed reference, writes a hybrid/overlay.

Each pair_coeff line names its style, with a number if a style occurs more than once.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixserver.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PairStyle:
    """One pair style with its coefficients."""

    style: str
    settings: str
    """Its arguments in the pair_style command."""
    coefficients: tuple[tuple[str, str, str], ...]
    """Two atom types, and the arguments after the style's name."""


@dataclass(frozen=True, slots=True)
class ReferencePotential:
    """Pair styles of a reference, and its files."""

    parts: tuple[PairStyle, ...]
    files: tuple[Path, ...] = ()
    """Files that it names in its folder."""

    def copy_files(self, folder: Path, taken: Sequence[str]) -> None:
        """Copy the files to the folder of the potential, whose own files have the names in `taken`.

        Raises:
            ConfigError: a file has a name that is taken, or cannot be copied.
        """
        for file in self.files:
            if file.name in taken:
                raise ConfigError(
                    f"the reference potential's file {file} has the name of a file of the "
                    "potential; rename it"
                )
            target = folder / file.name
            try:
                if not (target.exists() and target.samefile(file)):
                    shutil.copyfile(file, target)
            except OSError as error:
                raise ConfigError(f"{file} cannot be copied to {target}: {error}") from error


def pair_commands(parts: Sequence[PairStyle]) -> list[str]:
    """The pair_style command and the pair_coeff commands of one or several styles."""
    if len(parts) == 1:
        (part,) = parts
        return [
            f"pair_style {part.style} {part.settings}".rstrip(),
            *(f"pair_coeff {a} {b} {what}" for a, b, what in part.coefficients),
        ]
    often = Counter(part.style for part in parts)
    count: Counter[str] = Counter()
    styles = " ".join(f"{part.style} {part.settings}".rstrip() for part in parts)
    lines = [f"pair_style hybrid/overlay {styles}"]
    for part in parts:
        count[part.style] += 1
        name = part.style + (f" {count[part.style]}" if often[part.style] > 1 else "")
        lines += [f"pair_coeff {a} {b} {name} {what}" for a, b, what in part.coefficients]
    return lines


def read_pair_styles(
    reference: Path | Sequence[str], elements: Sequence[str]
) -> ReferencePotential:
    """Read the commands of a reference, or a file of them; elements are those of types 1, 2, ...

    Raises:
        ConfigError: it cannot be read, has commands other than pair_style and pair_coeff, or has
            atom types in another order.
    """
    beside = None
    if isinstance(reference, Path):
        beside = reference.parent
        try:
            reference = reference.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the reference {reference} cannot be read: {error}") from error
    styles: list[str] = []
    lines: list[list[str]] = []
    files: dict[Path, None] = {}
    labels: dict[str, str] = {}
    for words in _words(reference):
        if words[:2] == ["labelmap", "atom"]:
            labels |= dict(zip(words[2::2], words[3::2], strict=False))
        elif words[0] == "pair_style" and len(words) > 1:
            styles = words[1:]
        elif words[0] == "pair_coeff" and len(words) > 2:
            named = {at: _beside(word, beside) for at, word in enumerate(words) if at > 2}
            files |= {path: None for path in named.values() if path}
            # copies lie beside the new commands
            lines.append(
                [path.name if (path := named.get(at)) else w for at, w in enumerate(words)]
            )
        else:
            raise ConfigError(
                f"the reference potential has the command {' '.join(words)!r}; it can have "
                "pair_style, pair_coeff and labelmap only: write out variables and includes"
            )
    if bool(lines) != bool(styles):
        raise ConfigError("the reference potential needs both pair_style and pair_coeff")
    if not styles:
        return ReferencePotential(())
    _check_types(labels, lines, elements)
    if styles[0] == "hybrid/overlay":
        return ReferencePotential(_hybrid(styles[1:], lines), tuple(files))
    if styles[0].startswith("hybrid"):
        raise ConfigError(
            f"the reference potential is a {styles[0]}; only a hybrid/overlay can be overlaid "
            "on others"
        )
    # a line may name the style although that is not required
    coefficients = tuple(
        (a, b, " ".join(rest[1:] if rest[:1] == styles[:1] else rest)) for _, a, b, *rest in lines
    )
    return ReferencePotential(
        (PairStyle(styles[0], " ".join(styles[1:]), coefficients),), tuple(files)
    )


def _words(commands: Sequence[str]) -> Iterator[list[str]]:
    """The words of each command; a line that ends in & continues."""
    joined = ""
    for line in commands:
        joined += line.split("#")[0].strip()
        if joined.endswith("&"):
            joined = joined[:-1] + " "
            continue
        if joined:
            yield joined.split()
        joined = ""


def _beside(word: str, folder: Path | None) -> Path | None:
    if folder is None or "*" in word or not (folder / word).is_file():
        return None
    return folder / word


def _check_types(
    labels: Mapping[str, str], lines: Sequence[Sequence[str]], elements: Sequence[str]
) -> None:
    """Check that atom types are the same elements as in the potential."""
    expected = {str(at): symbol for at, symbol in enumerate(elements, 1)}
    if labels:
        if labels.items() <= expected.items():
            return
        theirs = " ".join(f"{kind} {symbol}" for kind, symbol in sorted(labels.items()))
    elif len(elements) == 1 or any(line[-len(elements) :] == [*elements] for line in lines):
        return
    else:
        theirs = "unnamed"
    ours = " ".join(f"{kind} {symbol}" for kind, symbol in expected.items())
    raise ConfigError(
        f"the reference potential has the atom types {theirs!r}, but the potential has "
        f"{ours!r}. Write 'labelmap atom {ours}' and number its pair_coeff commands so, or give "
        "the potential's elements in the reference's order"
    )


def _hybrid(words: Sequence[str], lines: Sequence[Sequence[str]]) -> tuple[PairStyle, ...]:
    """The parts of a hybrid; its styles are recognised from the pair_coeff commands."""
    known = {line[3] for line in lines if len(line) > 3}
    starts = [at for at, word in enumerate(words) if word in known]
    if not starts or starts[0] != 0:
        raise ConfigError(
            f"the reference potential has pair_style hybrid/overlay {' '.join(words)}, but no "
            f"pair_coeff names {words[0] if words else 'a style'}"
        )
    often = Counter(words[at] for at in starts)
    count: Counter[str] = Counter()
    parts = []
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        style = words[start]
        count[style] += 1
        mine = []
        for _, a, b, name, *rest in lines:
            if name != style:
                continue
            if often[style] == 1:
                mine.append((a, b, " ".join(rest)))
            elif rest and rest[0] == str(count[style]):
                mine.append((a, b, " ".join(rest[1:])))
        parts.append(PairStyle(style, " ".join(words[start + 1 : end]), tuple(mine)))
    stray = [line for line in lines if len(line) < 4 or line[3] not in often]
    if stray or sum(len(part.coefficients) for part in parts) != len(lines):
        lost = " ".join(stray[0]) if stray else "one of its pair_coeff commands"
        raise ConfigError(
            f"the reference potential: {lost} names no style of its hybrid/overlay; where a style "
            "occurs several times, its number follows the name"
        )
    return tuple(parts)
