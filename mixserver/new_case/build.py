"""Makes a case: reads what the user has, decides what was left open, writes the folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mixserver.core.errors import ConfigError
from mixserver.core.structures import existing_file, is_lammps_data
from mixserver.new_case.decisions import Wishes, check_size, choose_mixing, choose_motion
from mixserver.new_case.expensive import Expensive, read_expensive
from mixserver.new_case.lammps import (
    elements_of_types,
    read_data,
    read_input,
    start_from_lammps,
)
from mixserver.new_case.motion import Motion
from mixserver.new_case.potential import (
    Potential,
    describe,
    place,
    potential_of_input,
    read_potential,
    write_potential,
)
from mixserver.new_case.seeds import choose_seeds
from mixserver.new_case.start import Start, kinetic_temperature, read_start, write_start
from mixserver.new_case.texts import Plan, input_xml, mix_toml, readme
from mixserver.new_case.translation import Outcome, Translation, translate
from mixserver.wire.worker import ModelCard

_LONGEST_NAME: Final = 40


@dataclass(frozen=True)
class NewCase:
    """A case that was written."""

    folder: Path
    facts: tuple[str, ...]
    """What was read, chosen and assumed, one sentence each."""
    outcomes: tuple[Outcome, ...]
    """What became of the lines of a LAMMPS input."""


def make_case(wishes: Wishes) -> NewCase:
    """Write a new case.

    Raises:
        ConfigError: something is missing, contradicts something else, or cannot be read; nothing is
            left behind then.
    """
    folder = wishes.folder
    if folder.exists():
        raise ConfigError(f"{folder} exists already; name a new folder, or remove that one")
    if not folder.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {folder.absolute().parent} to make {folder.name} in")
    start, translation, potential, notes = _read(wishes)
    expensive = read_expensive(wishes.expensive, start.symbols, wishes.head)
    motion, said = choose_motion(wishes, translation)
    seeds = choose_seeds(wishes.seeds, start.frame, start.ids)
    check_size(start, wishes, expensive)
    folder.mkdir()
    try:
        write_potential(potential, folder, wishes.files)
        card = describe(folder, start.symbols)
        kind, why = choose_mixing(wishes.mixing, card, seeds, motion, expensive)
        if kind == "force" and motion.thermostat != "langevin" and motion.ensemble == "nvt":
            motion = replace(motion, thermostat="langevin")
            said.append(
                "force mixing adds heat in the blend: a Langevin thermostat, which is local"
            )
        plan = Plan(
            name=re.sub(r"\W", "_", folder.absolute().name)[:_LONGEST_NAME],
            motion=motion,
            seeds=seeds,
            expensive=expensive,
            core=wishes.core,
            blend=wishes.blend,
            kind=kind,
            why_kind=why,
            velocities=start.velocities is not None and motion.ensemble != "minimize",
        )
        moving = _of_velocities(start, motion)
        if motion.ensemble == "minimize":
            start = replace(start, velocities=None)
        facts = (
            _of_structure(start),
            *start.notes,
            *moving,
            *notes,
            f"expensive: {expensive.words}",
            f"cheap: {_of_potential(card)}",
            *potential.notes,
            f"seeds: {seeds.words}",
            f"region: core {wishes.core:g} Å, blend {wishes.blend:g} Å",
            f"{kind} mixing: {why}",
            *said,
        )
        outcomes = () if translation is None else translation.outcomes
        _write(plan, start, expensive, folder, wishes)
        rows = _rows(folder)
        text = readme(plan, facts, outcomes, wishes.made_by, rows)
        (folder / "README.md").write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # made above
        raise
    return NewCase(folder, facts, outcomes)


def _read(wishes: Wishes) -> tuple[Start, Translation | None, Potential, list[str]]:
    """The structure, the translated input, the cheap potential, and notes about them."""
    if wishes.lammps_input is not None and wishes.structure is None:
        return _read_input(wishes, existing_file(wishes.lammps_input))
    if wishes.structure is None or wishes.lammps_input is not None:
        raise ConfigError("give either --structure FILE or --from-lammps INPUT")
    file = existing_file(wishes.structure)
    if wishes.cheap is None:
        raise ConfigError(
            "--cheap is missing: lines such as 'pair_style sw; pair_coeff * * Si.sw Si', a file "
            "with them, a LAMMPS input, or the name of a potential that comes with LAMMPS"
        )
    if not is_lammps_data(file):
        start = read_start(file)
        return start, None, read_potential(wishes.cheap, start.symbols), []
    state = read_data(file, units=wishes.units, atom_style=wishes.atom_style)
    elements, how = elements_of_types(state, wishes.elements or _hinted(wishes.cheap, state.masses))
    notes = [f"elements of the atom types: {', '.join(elements)} ({how})"]
    if all(state.periodic):
        notes.append("periodic along all axes: a data file does not say")
    start = start_from_lammps(state, file.name, elements, notes)
    return start, None, read_potential(wishes.cheap, start.symbols), []


def _hinted(cheap: str, masses: Sequence[float]) -> tuple[str, ...] | None:
    """Elements at the end of ``pair_coeff * *`` in --cheap, for data files without masses."""
    if any(mass > 0.0 for mass in masses):
        return None
    text = Path(cheap).read_text(encoding="utf-8") if Path(cheap).is_file() else cheap
    found = re.search(r"pair_coeff\s+\*\s+\*[^\n;]*", text)
    names = found[0].split()[-len(masses) :] if found else []
    return tuple(names) if len(names) == len(masses) else None


def _read_input(
    wishes: Wishes, file: Path
) -> tuple[Start, Translation | None, Potential, list[str]]:
    state = read_input(file, potential=wishes.cheap is None, variables=wishes.variables)
    translation = translate(state, other_cheap=wishes.cheap is not None)
    elements, how = elements_of_types(state, wishes.elements)
    notes = [f"elements of the atom types: {', '.join(elements)} ({how})"]
    start = start_from_lammps(state, file.name, elements, notes)
    if wishes.cheap is not None:
        potential = read_potential(wishes.cheap, start.symbols)
    else:
        potential = potential_of_input(state, file, elements)
    return start, translation, potential, list(translation.assumed)


def _of_structure(start: Start) -> str:
    frame = start.frame
    numbers = frame.topology.numbers.tolist()
    from ase.data import chemical_symbols  # noqa: PLC0415

    counts = dict.fromkeys(start.symbols, 0)
    for z in numbers:
        counts[chemical_symbols[z]] += 1
    kinds = ", ".join(f"{n} {symbol}" for symbol, n in counts.items())
    axes = [axis for axis, on in zip("abc", frame.topology.pbc, strict=True) if on]
    repeats = "" if len(axes) == 3 else f", periodic along {' and '.join(axes) or 'no axis'}"
    return (
        f"structure: {start.source}, {kinds}, {frame.volume / len(frame):.2f} Å³ per atom{repeats}"
    )


def _of_velocities(start: Start, motion: Motion) -> tuple[str, ...]:
    if motion.ensemble == "minimize":
        left = "its velocities are left out: a geometry optimisation has none"
        return () if start.velocities is None else (left,)
    if start.velocities is None:
        return (
            f"velocities: {start.source} has none, so those of {2 * motion.temperature:g} K, twice "
            "the temperature, are drawn (<velocities> in input.xml)",
        )
    return (
        f"velocities: those of {start.source} ({kinetic_temperature(start):.3g} K), in "
        "velocities.xyz",
    )


def _of_potential(card: ModelCard) -> str:
    from mixserver.core.labels import element_symbols  # noqa: PLC0415

    reach = "" if card.cutoff is None else f", cut-off {card.cutoff:g} Å"
    return f"LAMMPS, for {', '.join(element_symbols(card.species or ()))}{reach}"


def _write(plan: Plan, start: Start, expensive: Expensive, folder: Path, wishes: Wishes) -> None:
    write_start(start, folder)
    if expensive.files:
        (folder / "model").mkdir()
        for name, file in expensive.files.items():
            place(file, folder / "model" / name, wishes.files)
    (folder / "input.xml").write_text(input_xml(plan), encoding="utf-8")
    (folder / "mix.toml").write_text(mix_toml(plan), encoding="utf-8")


def _rows(folder: Path) -> list[str]:
    """The table of files."""
    words = {
        "mix.toml": "region, mixing, models, workers",
        "input.xml": "i-PI's input: ensemble, timestep, temperature, length, output",
        "init.extxyz": "the atoms and the cell at the start",
        "velocities.xyz": "the velocities at the start, in atomic units",
        "cheap.in": "the cheap potential, as LAMMPS commands",
        "potential": "its files",
        "model": "the expensive model",
    }
    return [f"| `{name}` | {said} |" for name, said in words.items() if (folder / name).exists()]
