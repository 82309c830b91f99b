"""Untrained MACE models, made once by the worker's command and kept: time needs no training."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from mixserver.analysis.bench.child import run_program
from mixserver.core.cache_folder import cache_folder
from mixserver.core.errors import ConfigError
from mixserver.core.processes import environment_program


class UntrainedMace(msgspec.Struct, frozen=True, kw_only=True):
    """The layout of a model."""

    element: str = "W"
    irreps: str = "128x0e"
    l_max: int = 3
    layers: int = 2
    r_max: float = 6.0
    """Å."""

    @property
    def label(self) -> str:
        """The model in words."""
        layers = "" if self.layers == 2 else f", {self.layers} layers"
        return f"untrained MACE {self.irreps}, l_max {self.l_max}{layers}, {self.r_max:g} Å"

    def options(self) -> tuple[str, ...]:
        """The options of `mixserver bench mace` that give this layout."""
        words = ("--irreps", self.irreps, "--l-max", str(self.l_max), "--layers", str(self.layers))
        return (*words, "--r-max", f"{self.r_max:g}")

    async def file(self, folder: Path | None = None) -> Path:
        """The model's file, made if it does not exist.

        Args:
            folder: where it is kept; None for the user's cache.

        Raises:
            ConfigError: it cannot be made; the worker's words are quoted.
        """
        folder = cache_folder() if folder is None else folder
        irreps = "".join(c if c.isalnum() else "-" for c in self.irreps)
        name = f"untrained-{self.element}-{irreps}-l{self.l_max}-n{self.layers}-r{self.r_max:g}"
        file = folder / f"{name}.model"
        if file.is_file():
            return file
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be made ({error.strerror}); set MIXSERVER_CACHE"
            ) from error
        with tempfile.TemporaryDirectory(dir=folder) as private:
            made = Path(private, file.name)
            command = [environment_program("mixserver-worker"), "untrained", str(made)]
            command += ["--elements", self.element, "--irreps", self.irreps]
            command += ["--l-max", str(self.l_max), "--layers", str(self.layers)]
            command += ["--r-max", str(self.r_max)]
            try:
                ended = await run_program(command)
            except OSError as error:
                raise ConfigError(f"{command[0]} cannot be started: {error.strerror}") from error
            if ended.status != 0:
                quoted = ended.errors.strip().removeprefix("Error: ")
                raise ConfigError(f"no untrained model was made: {quoted[-600:]}")
            with contextlib.suppress(FileExistsError):
                os.replace(made, file)
        return file
