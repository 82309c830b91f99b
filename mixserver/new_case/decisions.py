"""What a user asked of a new case, and what follows where they left it open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mixserver.core.errors import ConfigError
from mixserver.new_case.expensive import Expensive
from mixserver.new_case.motion import (
    Ensemble,
    Motion,
    femtoseconds,
    gigapascal,
    kelvin,
    number_of_steps,
)
from mixserver.new_case.potential import Files
from mixserver.new_case.seeds import SeedChoice
from mixserver.new_case.start import Start, narrowest
from mixserver.new_case.translation import Translation
from mixserver.wire.worker import ModelCard


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


def choose_motion(wishes: Wishes, translation: Translation | None) -> tuple[Motion, list[str]]:
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


def check_size(start: Start, wishes: Wishes, expensive: Expensive) -> None:
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


def choose_mixing(
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
