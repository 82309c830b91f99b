"""The radii of a scan, from what the user wrote."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
import numpy as np

from mixserver.config import Case, Config
from mixserver.config.validation import validation_error
from mixserver.core.errors import ConfigError

_MOST: Final = 200
"""Points of a scan."""
_NAMES: Final = {
    "core": "core",
    "core_radius": "core",
    "blend": "blend",
    "blend_width": "blend",
}


class Radii(NamedTuple):
    """One point of a scan, in Å."""

    core: float
    blend: float


def read_grid(case: Case, ranges: Iterable[str]) -> list[Radii]:
    """All combinations of some ranges such as "core=3:8", "core=3:8:0.5" or "blend=2,4,6" (Å).

    The step is 1 Å by default; what is not named stays as in the case.

    Raises:
        ConfigError: a range was not understood, no combination or too many, or a combination
            that mix.toml could not have; no [region].
    """
    table = case.config.region
    if table is None:
        raise ConfigError(f"{case.file} has no [region], so there is nothing to scan")
    found = {"core": [table.core_radius], "blend": [table.blend_width]}
    named: set[str] = set()
    for text in (word for given in ranges for word in given.split()):
        name, values = _range(text)
        if name in named:
            raise ConfigError(f"--scan names {name} twice; give it one range")
        named.add(name)
        found[name] = values
    grid = [Radii(core, blend) for blend in found["blend"] for core in found["core"]]
    if len(grid) > _MOST:
        raise ConfigError(
            f"--scan has {len(grid)} combinations, each of which takes several evaluations; at "
            f"most {_MOST}: take a larger step, as in core=3:8:2"
        )
    for radii in grid:
        if why := validation_error(with_radii(case.config, radii)):
            raise ConfigError(f"--scan, core {radii.core:g} and blend {radii.blend:g} Å: {why}")
    return grid


def with_radii(config: Config, radii: Radii) -> Config:
    """The same settings with other radii.

    Raises:
        ConfigError: there is no [region].
    """
    if config.region is None:
        raise ConfigError("there is no [region], so it has no radii")
    table = msgspec.structs.replace(config.region, core_radius=radii.core, blend_width=radii.blend)
    return msgspec.structs.replace(config, region=table)


def _range(text: str) -> tuple[str, list[float]]:
    name, equals, values = text.partition("=")
    if name not in _NAMES or not equals:
        raise ConfigError(f"--scan {text!r}: write core=LOW:HIGH or blend=LOW:HIGH, as core=3:8")
    try:
        if ":" not in values:
            found = sorted({float(value) for value in values.split(",")})
        else:
            low, high, *step = (float(value) for value in values.split(":"))
            found = _steps(low, high, *step)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"--scan {text!r}: lengths in Å as LOW:HIGH, LOW:HIGH:STEP or A,B,C"
        ) from error
    if not found or not all(math.isfinite(value) and value >= 0.0 for value in found):
        raise ConfigError(f"--scan {text!r}: lengths are 0 Å or more, the lower one first")
    return _NAMES[name], found


def _steps(low: float, high: float, step: float = 1.0) -> list[float]:
    if not (math.isfinite(low) and math.isfinite(high) and step > 0.0):
        raise ValueError("not a range")
    if (high - low) / step > _MOST:
        raise ConfigError(f"--scan: from {low:g} to {high:g} by {step:g} are more than {_MOST}")
    count = math.floor((high - low) / step + 1e-9) + 1
    return [round(float(value), 9) for value in low + step * np.arange(max(count, 0))]
