"""The workers of a case with other kernels, precision, devices or models than it says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import ase.data
import msgspec

from mixserver.analysis.bench.replicate import LargerCase
from mixserver.analysis.bench.untrained import UntrainedMace
from mixserver.config import Limits, Local
from mixserver.core.errors import ConfigError

_ENGINES: Final = {"mace": "MACE", "lammps": "LAMMPS"}
_WITHOUT: Final = Limits(
    energy_change=math.inf,
    force=math.inf,
    pressure=math.inf,
    dead_load=math.inf,
    zero_spread=math.inf,
)
"""For models that mean nothing."""


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a benchmark changes; empty: as in the case."""

    kernels: str = ""
    """Of MACE workers."""
    dtype: str = ""
    """Of MACE workers."""
    device: str = ""
    """Of MACE workers."""
    untrained: UntrainedMace | None = None
    """Takes the place of the case's MACE model, to measure the time of such a model; its elements
    are those of the structure, and the bounds of [limits] are off."""
    cheap_arguments: str = ""
    """Switches for LAMMPS."""
    cheap_kernels: str = ""
    """Of LAMMPS workers."""

    def options(self) -> list[str]:
        """Words of the command line that say the same."""
        words: list[str] = []
        for name in ("kernels", "dtype", "device"):
            if getattr(self, name):
                words += [f"--{name}", getattr(self, name)]
        if self.untrained is not None:
            words += self.untrained.options()
        if self.cheap_arguments:
            words += ["--lmp-args", self.cheap_arguments]
        if self.cheap_kernels:
            words += ["--cheap-kernels", self.cheap_kernels]
        return words


async def adapt(larger: LargerCase, options: EngineOptions) -> LargerCase:
    """A case whose workers are as the options say.

    Raises:
        ConfigError: a model is to take the place of the case's MACE, and it has none.
    """
    config = larger.case.config
    local = tuple(_adapted(one, options) for one in config.local)
    config = msgspec.structs.replace(config, local=local)
    larger = replace(larger, case=replace(larger.case, config=config))
    if options.untrained is None:
        return larger
    return await _with_untrained(larger, options.untrained)


def _adapted(local: Local, options: EngineOptions) -> Local:
    changed: dict[str, str] = {}
    if local.command[0] == "mace":
        changed = {"kernels": options.kernels, "dtype": options.dtype, "device": options.device}
    elif local.command[0] == "lammps":
        changed = {"lmp-args": options.cheap_arguments, "kernels": options.cheap_kernels}
    command = with_options(local, **{name: value for name, value in changed.items() if value})
    return msgspec.structs.replace(local, command=command)


async def _with_untrained(larger: LargerCase, layout: UntrainedMace) -> LargerCase:
    """The case with an untrained model in place of its own."""
    numbers = sorted({int(number) for number in larger.workload.numbers})
    elements = ",".join(ase.data.chemical_symbols[number] for number in numbers)
    file = await msgspec.structs.replace(layout, element=elements).file()
    case, config = larger.case, larger.case.config
    local = tuple(
        msgspec.structs.replace(one, command=("mace", str(file), *one.command[2:]))
        if one.command[0] == "mace"
        else one
        for one in config.local
    )
    if local == config.local:
        raise ConfigError(f"{case.file} has no MACE worker whose model could be replaced")
    config = msgspec.structs.replace(config, local=local, limits=_WITHOUT)
    return replace(larger, case=replace(case, config=config))


def mixed_label(cheap: Local, expensive: Local, untrained: UntrainedMace | None = None) -> str:
    """The models of a mixed run, and the kernels of its MACE."""
    kernels = option(expensive, "--kernels") or ("torch" if expensive.command[0] == "mace" else "")
    with_kernels = f" ({kernels} kernels)" if kernels else ""
    return f"{model_label(expensive, untrained)}{with_kernels} in {model_label(cheap)}"


def model_label(local: Local, untrained: UntrainedMace | None = None) -> str:
    """The model of a worker: its file with its folder, or its layout, and precision and ranks."""
    engine, *words = local.command
    named = bool(words) and not words[0].startswith("-")
    file = "/".join(Path(words[0]).parts[-2:]) if named else " ".join(words)
    label = f"{_ENGINES.get(engine, engine)} {file}".strip()
    if untrained is not None and engine == "mace":
        label = untrained.label
    extra = [option(local, "--dtype")] if option(local, "--dtype") else []
    if engine == "lammps":
        extra.append(f"{option(local, '--kernels') or 'auto'} kernels")
    extra += [f"{local.mpi} ranks"] if local.mpi > 1 else []
    return ", ".join([label, *extra])


def option(local: Local, name: str) -> str:
    """The value of an option in a worker's command; empty if it is not given."""
    words = local.command
    return words[words.index(name) + 1] if name in words[:-1] else ""


def with_options(local: Local, **options: str) -> tuple[str, ...]:
    """The command of a worker with other values of options that it has, or with these added."""
    words = list(local.command)
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if option == "--threads" and words[0] != "mace":
            continue
        if option in words[:-1]:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return tuple(words)
