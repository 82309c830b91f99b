"""Makes a case: reads what the user has, decides what was left open, writes the folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from mixserver.core.errors import ConfigError
from mixserver.core.structures import existing_file, is_lammps_data
from mixserver.new_case.expensive import Expensive, read_expensive
from mixserver.new_case.lammps import (
    elements_of_types,
    read_data,
    read_input,
    start_from_lammps,
)
from mixserver.new_case.motion import (
    Ensemble,
    Motion,
    femtoseconds,
    gigapascal,
    kelvin,
    number_of_steps,
)
from mixserver.new_case.potential import (
    Files,
    Potential,
    describe,
    place,
    potential_of_input,
    read_potential,
    write_potential,
)
from mixserver.new_case.seeds import SeedChoice, choose_seeds
from mixserver.new_case.start import Start, narrowest, read_start, write_start
from mixserver.new_case.texts import Plan, input_xml, mix_toml, readme
from mixserver.new_case.translation import Outcome, Translation, translate
from mixserver.wire.worker import ModelCard

_LONGEST_NAME: Final = 40


@dataclass(frozen=True)
class Wishes:
    """What the user asked for; None where they left it open."""

    folder: Path
    expensive: str
    structure: Path | None = None
    lammps_input: Path | None = None
    cheap: str | None = None
    seeds: str = "auto"
    core: float = 4.0
    """Å."""
    blend: float = 4.0
    """Å."""
    ensemble: Ensemble | None = None
    timestep: str | None = None
    temperature: str | None = None
    pressure: str | None = None
    barostat: Literal["isotropic", "orthogonal", "flexible"] | None = None
    length: str | None = None
    mixing: Literal["auto", "energy", "force"] = "auto"
    units: str | None = None
    atom_style: str | None = None
    elements: tuple[str, ...] | None = None
    variables: tuple[str, ...] = ()
    head: str | None = None
    files: Files = "copy"
    made_by: str = "mixserver new"


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
    motion, said = _motion(wishes, translation)
    seeds = choose_seeds(wishes.seeds, start.frame, start.ids)
    _check_size(start, wishes, expensive)
    folder.mkdir()
    try:
        write_potential(potential, folder, wishes.files)
        card = describe(folder, start.symbols)
        kind, why = _kind(wishes.mixing, card, seeds, motion, expensive)
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
        if motion.ensemble == "minimize":
            start = replace(start, velocities=None)
        facts = (
            _of_structure(start),
            *start.notes,
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


def _motion(wishes: Wishes, translation: Translation | None) -> tuple[Motion, list[str]]:
    """The motion: options first, then the LAMMPS input, then defaults, which are named."""
    base = Motion() if translation is None else translation.motion
    said: list[str] = []
    ensemble = wishes.ensemble or base.ensemble
    motion = replace(base, ensemble=ensemble)
    if wishes.timestep is not None:
        motion = replace(motion, timestep=femtoseconds(wishes.timestep, "--timestep"))
    if wishes.temperature is not None:
        motion = replace(motion, temperature=kelvin(wishes.temperature, "--temperature"))
    if wishes.pressure is not None:
        if ensemble != "npt":
            raise ConfigError(f"--pressure is for --ensemble npt, not {ensemble}")
        motion = replace(motion, pressure=gigapascal(wishes.pressure, "--pressure"))
    if wishes.barostat is not None:
        motion = replace(motion, barostat=wishes.barostat)
    if wishes.length is not None:
        steps = number_of_steps(wishes.length, motion.timestep, "--length")
        motion = replace(motion, steps=steps)
    if translation is None:
        defaults = {
            "ensemble NVT": wishes.ensemble,
            "timestep 1 fs": wishes.timestep,
            "temperature 300 K": wishes.temperature,
            "length 2000 steps": wishes.length,
        }
        if ensemble == "minimize":
            defaults = {"at most 2000 steps": wishes.length}
        elif ensemble == "npt":
            defaults |= {"pressure 0 GPa": wishes.pressure, "the volume alone": wishes.barostat}
        left = [name for name, given in defaults.items() if given is None]
        if left:
            said.append(f"assumed: {', '.join(left)}")
    return motion, said


def _check_size(start: Start, wishes: Wishes, expensive: Expensive) -> None:
    """Refuse a cell that the region would fill.

    Raises:
        ConfigError: the region meets its own image.
    """
    if wishes.core < 0.0 or wishes.blend < 0.0:
        raise ConfigError("--core and --blend are radii in Å, 0 or more")
    reach = wishes.core + wishes.blend
    across = narrowest(start.frame)
    if 2.0 * reach > across:
        field = expensive.receptive_field
        wide = "" if field is None else f"; {2.0 * (reach + field):.0f} Å and more pay off"
        raise ConfigError(
            f"the cell is too small: {across:.2f} Å between its nearest faces, and a region of "
            f"core {wishes.core:g} + blend {wishes.blend:g} Å around one atom needs "
            f"{2.0 * reach:g} Å{wide}. Use a larger supercell (or --core and --blend), or use the "
            "expensive model alone"
        )


def _kind(
    wanted: str, card: ModelCard, seeds: SeedChoice, motion: Motion, expensive: Expensive
) -> tuple[str, str]:
    """The kind of mixing, and the reason.

    Raises:
        ConfigError: the models cannot do what the ensemble needs.
    """
    reason = ""
    if not card.weights:
        reason = f"the cheap potential has no weighted site energies ({card.no_weights})"
    elif expensive.command[0] in {"ase"}:
        reason = "an ASE calculator has no weighted site energies"
    chosen = seeds.kind == "criterion"
    if chosen and motion.ensemble == "minimize":
        raise ConfigError(
            "a geometry optimisation needs one energy surface, and a criterion changes it: use "
            "--seeds atoms ..., or auto"
        )
    if wanted == "energy" and reason:
        raise ConfigError(f"--mixing energy is not possible: {reason}")
    if wanted != "force" and not reason and not (chosen and motion.ensemble == "nvt"):
        by_hand = "as asked" if wanted == "energy" else "one potential energy, for every ensemble"
        return "energy", by_hand
    if wanted == "energy":
        return "energy", "as asked; it jumps where the criterion chooses again"
    if motion.ensemble != "nvt":
        why = reason or "--mixing force"
        raise ConfigError(
            f"{motion.ensemble} needs one potential energy, and with force mixing there is none "
            f"({why}). Use --ensemble nvt, or a cheap potential that can be weighted (SNAP, EAM, "
            "SW, Tersoff, pairs; mixserver distill makes one)"
        )
    why = reason or ("as asked" if wanted == "force" else "seeds come and go, with a thermostat")
    return "force", f"{why}; i-PI gets no conserved energy"


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
