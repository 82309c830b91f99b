"""The files of a new case as text: input.xml, mix.toml, README.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mixserver.new_case.expensive import Expensive
from mixserver.new_case.motion import Motion
from mixserver.new_case.seeds import SeedChoice
from mixserver.new_case.translation import Outcome

_SIGN = {"kept": "=", "changed": "~", "none": "-"}


@dataclass(frozen=True)
class Plan:
    """Everything that a case is made of."""

    name: str
    motion: Motion
    seeds: SeedChoice
    expensive: Expensive
    core: float
    """Å."""
    blend: float
    """Å."""
    kind: str
    """Of mixing: "energy" or "force"."""
    why_kind: str
    velocities: bool
    """Whether velocities.xyz exists."""


def input_xml(plan: Plan) -> str:
    """i-PI's input."""
    motion = plan.motion
    properties = "step, time{picosecond}, conserved{electronvolt}, temperature{kelvin}, "
    properties += "potential{electronvolt}"
    if motion.ensemble == "npt":
        properties += ", pressure_md{megapascal}, volume{angstrom3}, cell_abcABC"
    if motion.ensemble == "minimize":
        properties = "step, potential{electronvolt}"
    lines = [
        f"<!-- {_headline(motion)}. Forces come from mixserver. -->",
        "<simulation verbosity='low'>",
        "  <output prefix='simulation'>",
        f"    <properties stride='{motion.every}' filename='out'> [ {properties} ] </properties>",
        f"    <trajectory filename='pos' stride='{motion.frames_every}' cell_units='angstrom'> "
        "positions{angstrom} </trajectory>",
        f"    <checkpoint stride='{motion.checkpoint_every}' filename='chk' overwrite='true'/>",
        "  </output>",
        f"  <total_steps> {motion.steps} </total_steps>",
        "  <prng> <seed> 31415 </seed> </prng>",
        "  <ffsocket name='mixserver' mode='unix' pbc='false'>",
        f"    <address> {plan.name} </address>",
        "  </ffsocket>",
        "  <system>",
        "    <initialize nbeads='1'>",
        "      <file mode='ase' units='angstrom' cell_units='angstrom'> init.extxyz </file>",
        *_velocities(plan),
        "    </initialize>",
        "    <forces> <force forcefield='mixserver'/> </forces>",
        *_ensemble(motion),
        *_motion(motion),
        "  </system>",
        "</simulation>",
    ]
    return "\n".join(lines) + "\n"


def _headline(motion: Motion) -> str:
    if motion.ensemble == "minimize":
        return "Geometry optimisation"
    length = motion.steps * motion.timestep / 1e3
    said = f"{motion.ensemble.upper()}, {length:g} ps in steps of {motion.timestep:g} fs"
    return said if motion.ensemble == "nve" else f"{said}, {motion.temperature:g} K"


def _velocities(plan: Plan) -> list[str]:
    motion = plan.motion
    if motion.ensemble == "minimize":
        return []
    if plan.velocities:
        return ["      <velocities mode='xyz' units='atomic_unit'> velocities.xyz </velocities>"]
    return [
        f"      <!-- twice {motion.temperature:g} K: half of it becomes potential energy if the "
        "atoms",
        "           start at a minimum. Write the temperature itself if they are hot already -->",
        f"      <velocities mode='thermal' units='kelvin'> {2 * motion.temperature:g} "
        "</velocities>",
    ]


def _ensemble(motion: Motion) -> list[str]:
    if motion.ensemble == "minimize":
        return []
    temperature = f"<temperature units='kelvin'> {motion.temperature:g} </temperature>"
    if motion.ensemble != "npt":
        return [f"    <ensemble> {temperature} </ensemble>"]
    return [
        "    <ensemble>",
        f"      {temperature}",
        f"      <pressure units='gigapascal'> {motion.pressure:g} </pressure>",
        "    </ensemble>",
    ]


def _motion(motion: Motion) -> list[str]:
    fixed = f"      <fixatoms> [ {', '.join(map(str, motion.fixed))} ] </fixatoms>"
    held = [fixed] if motion.fixed else []
    if motion.ensemble == "minimize":
        return [
            "    <motion mode='minimize'>",
            *held,
            f"      <optimizer mode='{motion.optimiser}'>",
            "        <tolerances>",
            f"          <energy units='electronvolt'> {motion.energy_tolerance:g} </energy>",
            f"          <force units='ev/ang'> {motion.force_tolerance:g} </force>",
            "          <position units='angstrom'> 1e-3 </position>",
            "        </tolerances>",
            "      </optimizer>",
            "    </motion>",
        ]
    splitting = " splitting='baoab'" if motion.ensemble == "nvt" else ""
    thermostat = (
        f"<thermostat mode='{motion.thermostat}'> <tau units='femtosecond'> {motion.tau:g} </tau> "
        "</thermostat>"
    )
    cell = []
    if motion.ensemble == "npt":
        flexible = motion.barostat != "isotropic"
        cell = [
            f"        <barostat mode='{'flexible' if flexible else 'isotropic'}'>",
            f"          <tau units='femtosecond'> {motion.barostat_tau:g} </tau>",
            "          <thermostat mode='langevin'> <tau units='femtosecond'> "
            f"{motion.tau:g} </tau> </thermostat>",
            *(["          <hfix> [ offdiagonal ] </hfix>"] * (motion.barostat == "orthogonal")),
            "        </barostat>",
        ]
    return [
        "    <motion mode='dynamics'>",
        f"      <fixcom> {motion.remove_drift} </fixcom>",
        *held,
        f"      <dynamics mode='{motion.ensemble}'{splitting}>",
        f"        <timestep units='femtosecond'> {motion.timestep:g} </timestep>",
        *([f"        {thermostat}"] if motion.ensemble in {"nvt", "npt"} else []),
        *cell,
        "      </dynamics>",
        "    </motion>",
    ]


def mix_toml(plan: Plan) -> str:
    """The settings of the case, with comments."""
    region = [
        "[region]                      # which atoms are expensive",
        f"core_radius = {plan.core!r}             # Å around every seed: the expensive model only",
        f"blend_width = {plan.blend!r}             # Å over which its share falls to 0",
    ]
    if plan.kind == "energy" and plan.seeds.kind == "species":
        region.append("follow = true                 # the region moves smoothly with the seeds")
    lines = [
        f"# {plan.name}: lengths in Å, energies in eV. Every key: docs/reference/mix-toml.md",
        "",
        "[upstream]",
        f'address = "unix:{plan.name}"',
        'structure = "init.extxyz"     # what i-PI starts from, too',
        "",
        *region,
        "",
        "[region.seeds]",
        *_short(plan.seeds),
        "",
    ]
    if plan.seeds.kind == "criterion":
        lines += [
            "[region.hysteresis]           # where seeds come and go, lambda follows with a delay",
            "time_in = 5.0",
            "time_out = 50.0",
            "",
        ]
    lines += [
        "[mixing]",
        *(f"# {line}" for line in _wrapped(plan.why_kind)),
        f'kind = "{plan.kind}"',
        "",
        "[models.cheap]",
        "[models.expensive]",
        "",
        "[[local]]                     # workers that `mixserver run` starts here",
        'role = "cheap"',
        'command = ["lammps", "cheap.in"]',
        "",
        "[[local]]",
        'role = "expensive"',
        f"command = {json.dumps(list(plan.expensive.command), ensure_ascii=False)}",
    ]
    return "\n".join(lines) + "\n"


def readme(
    plan: Plan,
    facts: Sequence[str],
    outcomes: Sequence[Outcome],
    made_by: str,
    files: Sequence[str],
) -> str:
    """The case's README: how to run it, what was read, assumed and translated."""
    lines = [
        f"# {plan.name}",
        "",
        f"{_headline(plan.motion)}. Made by `{made_by}`.",
        "",
        "    mixserver check .",
        "    mixserver run . --steps 100",
        "    mixserver plot runs/latest",
        "",
        "| file | |",
        "|---|---|",
        *files,
        "",
        "What was read and assumed:",
        "",
        *(f"* {fact}" for fact in facts),
    ]
    if outcomes:
        lines += [
            "",
            "What became of the LAMMPS input (`=` as there, `~` something else in its place, `-` "
            "nothing):",
            "",
            "```text",
            *outcome_lines(outcomes),
            "```",
        ]
    return "\n".join(lines) + "\n"


def outcome_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """The table of what became of every line."""
    where = max((len(outcome.where) for outcome in outcomes), default=0)
    lines = []
    for outcome in outcomes:
        text = " ".join(outcome.text.split())
        lines.append(f"{_SIGN[outcome.level]} {outcome.where:<{where}}  {text}")
        if outcome.words:
            lines.append(f"  {'':<{where}}    -> {outcome.words}")
    return lines


def _short(seeds: SeedChoice) -> list[str]:
    """The lines of the table, long lists of atoms broken."""
    lines = []
    for line in seeds.lines:
        if len(line) < 100 or ", " not in line:
            lines.append(line)
            continue
        head, _, rest = line.partition("[")
        numbers = rest.rstrip("]").split(", ")
        lines.append(f"{head}[")
        lines += [f"    {', '.join(numbers[at : at + 15])}," for at in range(0, len(numbers), 15)]
        lines.append("]")
    return lines


def _wrapped(text: str) -> list[str]:
    import textwrap  # noqa: PLC0415

    return textwrap.wrap(text, 96)
