"""From the lines of a LAMMPS input to i-PI's settings, with a word about every line.

Pure: it gets the lines as a worker read them (`mixserver.wire.lammps_input`) and returns values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mixserver.core.errors import ConfigError
from mixserver.new_case.fixes import Integration, integration_of
from mixserver.new_case.motion import Motion
from mixserver.wire.lammps_input import InputLine, LammpsState

FEMTOSECONDS: Final = {"metal": 1e3, "real": 1.0}
"""fs per unit of time, of the unit styles that are converted."""
_TIMESTEP: Final = {"metal": 0.001, "real": 1.0}
"""LAMMPS's defaults."""
_MOST_EVERY: Final = 10
"""Steps between two lines of properties, however rare LAMMPS's are."""
_KCAL: Final = 0.0433641153
"""eV per kcal/mol."""
_OUTPUT: Final = frozenset(
    {"thermo_modify", "log", "echo", "print", "info", "write_data", "write_restart", "write_dump"}
    | {"dump_modify", "shell", "undump", "label", "timer", "reset_timestep", "thermo_style"}
)
_MACHINE: Final = frozenset(
    {"package", "suffix", "processors", "neighbor", "neigh_modify", "comm_modify", "comm_style"}
    | {"run_style", "newton", "atom_modify", "balance", "plugin", "accelerator"}
)
_ATOMS: Final = frozenset(
    {"lattice", "region", "create_box", "create_atoms", "read_data", "read_restart", "box"}
    | {"displace_atoms", "delete_atoms", "replicate", "change_box", "set", "molecule", "dimension"}
    | {"reset_atoms", "atom_style", "boundary"}
)
_BONDED: Final = ("bond_", "angle_", "dihedral_", "improper_", "special_", "create_bonds")


@dataclass(frozen=True)
class Outcome:
    """What became of one line."""

    where: str
    text: str
    level: Literal["kept", "changed", "none"]
    """As in LAMMPS; something else in its place; nothing in its place."""
    words: str


@dataclass(frozen=True)
class Translation:
    """A LAMMPS input as i-PI's settings."""

    motion: Motion
    outcomes: tuple[Outcome, ...]
    velocities: bool
    """Whether the input set velocities, which the case starts from."""
    assumed: tuple[str, ...] = ()
    """What the input left open."""


def check_units(units: str, source: str) -> None:
    """Refuse unit styles that are not converted.

    Raises:
        ConfigError: neither metal nor real.
    """
    if units not in FEMTOSECONDS:
        why = "LAMMPS's default: the input has no units line" if units == "lj" else "as it says"
        raise ConfigError(
            f"{source} is in units {units} ({why}). Units metal and real are converted; others "
            "have another length or no absolute one. Write the structure in Å, for example as "
            "extxyz, and start from that: --structure FILE"
        )


def translate(state: LammpsState, *, other_cheap: bool = False) -> Translation:
    """Translate the lines of an input.

    Args:
        state: what a worker read.
        other_cheap: whether the cheap potential is another than the input's.

    Raises:
        ConfigError: a unit style that is not converted, or fixes that contradict each other.
    """
    check_units(state.units, "the LAMMPS input")
    made = _Translator(state, other_cheap)
    for line in state.lines:
        made.take(line)
    return made.finished()


class _Translator:
    def __init__(self, state: LammpsState, other_cheap: bool) -> None:
        self._state, self._other_cheap = state, other_cheap
        self._fs = FEMTOSECONDS[state.units]
        self._outcomes: list[Outcome] = []
        self._fixes: dict[str, InputLine] = {}
        self._at: dict[str, int] = {}
        """Where the outcome of a fix stands."""
        self._settings: dict[str, Any] = {"timestep": _TIMESTEP[state.units] * self._fs}
        self._velocities = self._ran = False
        self._minimised: dict[str, Any] | None = None
        self._optimiser: Literal["cg", "sd", "lbfgs"] = "cg"

    def take(self, line: InputLine) -> None:
        """Sort one line."""
        if line.use == "after_run":
            self._say(line, "none", "below the first run, which is the one that is carried over")
            return
        command, words = line.words[0], line.words[1:]
        if line.use == "potential":
            self._potential(line)
        elif command in _ATOMS:
            self._say(line, "kept", "executed by LAMMPS; its result is in init.extxyz")
        elif command in _OUTPUT:
            self._say(line, "none", "output of LAMMPS; i-PI's is in <output>")
        elif command in _MACHINE:
            self._say(line, "none", "how LAMMPS computes; the worker chooses for itself")
        elif command.startswith(_BONDED):
            self._say(line, "none", "bonded terms are no part of the worker's potential")
        elif (handler := getattr(self, f"_{command}", None)) is not None:
            handler(line, words)
        elif line.use == "executed":
            self._say(line, "kept", "executed by LAMMPS")
        else:
            self._say(line, "none", f"i-PI has no counterpart of {command}")

    def finished(self) -> Translation:
        """The settings, once all lines are known."""
        assumed: list[str] = []
        minimise = self._minimised is not None and not self._ran
        if minimise and self._minimised is not None:
            motion = Motion(ensemble="minimize", **self._minimised)
            motion = replace(motion, optimiser=self._optimiser, **self._strides())
            self._other_fixes()
        else:
            found = integration_of(list(self._fixes.values()), self._state)
            for name, (level, words) in found.said.items():
                self._replace(name, level, words)
            motion = self._dynamics(found, assumed)
        outcomes = tuple(self._outcomes)
        return Translation(motion, outcomes, self._velocities, tuple(assumed))

    def _dynamics(self, found: Integration, assumed: list[str]) -> Motion:
        if found.ensemble is None:
            assumed.append("no fix that integrates the equations of motion: NVT at 300 K")
        if not self._ran:
            assumed.append(f"no run of a step or more: {Motion.steps} steps")
        steps = self._settings.get("steps", Motion.steps)
        return replace(
            Motion(timestep=self._settings["timestep"], steps=steps),
            **found.settings,
            **self._strides(),
        )

    def _strides(self) -> dict[str, Any]:
        keys = ("every", "frames_every", "checkpoint_every")
        return {key: self._settings[key] for key in keys if key in self._settings}

    def _other_fixes(self) -> None:
        for name in self._fixes:
            self._replace(name, "none", "not part of a geometry optimisation in i-PI")

    def _say(self, line: InputLine, level: Literal["kept", "changed", "none"], words: str) -> None:
        self._outcomes.append(Outcome(f"{line.file}:{line.number}", line.text, level, words))

    def _replace(self, name: str, level: Literal["kept", "changed", "none"], words: str) -> None:
        at = self._at[name]
        self._outcomes[at] = replace(self._outcomes[at], level=level, words=words)

    def _potential(self, line: InputLine) -> None:
        if self._other_cheap:
            self._say(line, "none", "replaced by the potential of --cheap")
        else:
            self._say(line, "kept", "the cheap potential, cheap.in")

    def _units(self, line: InputLine, words: Sequence[str]) -> None:
        if words[0] == "metal":
            self._say(line, "kept", "written with units: Å, fs, K, GPa")
        else:
            self._say(
                line, "changed", "converted: Å as they are, fs, K, atm to GPa, kcal/mol to eV"
            )

    def _mass(self, line: InputLine, words: Sequence[str]) -> None:
        self._say(line, "kept", "masses of init.extxyz, where they differ from the element's")

    def _labelmap(self, line: InputLine, words: Sequence[str]) -> None:
        self._say(line, "kept", "names the elements of init.extxyz")

    def _velocity(self, line: InputLine, words: Sequence[str]) -> None:
        self._velocities = True
        self._say(line, "kept", "executed by LAMMPS; velocities.xyz")

    def _group(self, line: InputLine, words: Sequence[str]) -> None:
        self._say(line, "kept", "executed by LAMMPS, for the lines that use it")

    def _variable(self, line: InputLine, words: Sequence[str]) -> None:
        self._say(line, "kept", "its value is in the lines that use it")

    def _timestep(self, line: InputLine, words: Sequence[str]) -> None:
        self._settings["timestep"] = float(words[0]) * self._fs
        self._say(line, "kept", f"<timestep> {self._settings['timestep']:g} fs")

    def _run(self, line: InputLine, words: Sequence[str]) -> None:
        steps = int(float(words[0]))
        if steps == 0:
            self._say(line, "none", "run 0 makes no step; mixserver check evaluates the start")
            return
        self._ran = True
        self._settings["steps"] = steps
        rest = f"; {' '.join(words[1:])}: not carried over" if words[1:] else ""
        self._say(line, "kept", f"<total_steps> {steps}{rest}")

    def _minimize(self, line: InputLine, words: Sequence[str]) -> None:
        energy, force = (float(word) for word in words[:2])
        scale = 1.0 if self._state.units == "metal" else _KCAL
        self._minimised = {"steps": int(float(words[2]))}
        if force > 0.0:
            self._minimised["force_tolerance"] = force * scale
        if energy > 0.0:
            self._minimised["energy_tolerance"] = energy
        self._say(
            line,
            "changed",
            "if no run follows: geometry optimisation, with the tolerance of forces and the number "
            "of steps; LAMMPS's etol is relative, i-PI's is in eV. If a run follows: NOT done, the "
            "case starts from unrelaxed atoms (write_data after it, and start from that file)",
        )

    def _min_style(self, line: InputLine, words: Sequence[str]) -> None:
        self._optimiser = "sd" if words[0] == "sd" else "cg" if words[0] == "cg" else "lbfgs"
        level: Literal["kept", "changed"] = "kept" if words[0] in {"cg", "sd"} else "changed"
        self._say(line, level, f"<optimizer mode='{self._optimiser}'>, of a geometry optimisation")

    def _thermo(self, line: InputLine, words: Sequence[str]) -> None:
        if not words or not words[0].isdigit() or int(words[0]) <= _MOST_EVERY:
            self._stride(line, words, "every", "<properties stride='{}'>")
            return
        form = f"<properties stride='{{}}'>, not {words[0]}: temperature and drift are read from it"
        self._stride(line, [str(_MOST_EVERY)], "every", form)

    def _dump(self, line: InputLine, words: Sequence[str]) -> None:
        self._stride(line, words[3:], "frames_every", "<trajectory stride='{}'> of positions, in Å")

    def _restart(self, line: InputLine, words: Sequence[str]) -> None:
        self._stride(line, words, "checkpoint_every", "<checkpoint stride='{}'>")

    def _stride(self, line: InputLine, words: Sequence[str], key: str, form: str) -> None:
        if not words or not words[0].isdigit() or int(words[0]) < 1:
            self._say(line, "none", "no fixed interval; i-PI's outputs have one")
            return
        self._settings[key] = int(words[0])
        self._say(line, "changed", form.format(words[0]))

    def _compute(self, line: InputLine, words: Sequence[str]) -> None:
        self._say(line, "none", "a per-atom compute can choose the region: --seeds 'criterion ...'")

    def _fix(self, line: InputLine, words: Sequence[str]) -> None:
        self._fixes[words[0]] = line
        self._at[words[0]] = len(self._outcomes)
        self._say(line, "none", "")

    def _unfix(self, line: InputLine, words: Sequence[str]) -> None:
        if self._fixes.pop(words[0], None) is not None:
            self._replace(words[0], "none", "unfixed before the run")
        self._say(line, "kept", "")
