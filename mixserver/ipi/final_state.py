"""Check of the final state of a run: finite numbers and a physical temperature.

i-PI integrates with any time step, and ends without an error at 1e30 K.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.core.arrays import Scalars
from mixserver.core.errors import Unphysical
from mixserver.ipi.input import IpiInput
from mixserver.ipi.output import PropertiesTail

_KELVIN: Final = 315775.02480407
"""Per Hartree."""
_FAR: Final = 1e9
"""Bohr: no atom gets there."""
_LARGEST: Final = 1 << 29
"""Bytes of a RESTART; larger ones are not checked."""


def check_final_state(folder: Path, ipi: IpiInput, hottest: float) -> None:
    """Refuse the final state of a run that is not physical.

    `hottest` is the highest plausible temperature in K; of a ring polymer, its beads together.

    Raises:
        Unphysical: it is not physical.
    """
    printed = folder / f"{ipi.prefix}.{ipi.properties}"
    last = PropertiesTail(printed, ipi.property_names).last()
    if wrong := final_state_error(folder / "RESTART", last, hottest):
        raise Unphysical(
            f"i-PI made all its steps, but the trajectory is not physical: {wrong}. Is the time "
            f"step too long, and its unit right? Look at where {printed} begins to go wrong"
        )


def final_step(folder: Path) -> int | None:
    """The step at which a run ended, of its RESTART; None if there is none that can be read."""
    restart, depth = folder / "RESTART", 0
    if restart.is_symlink():
        return None
    try:
        with restart.open("rb") as file:  # <step> is near its beginning; the rest may be long
            for event, node in ET.iterparse(file, ("start", "end")):  # noqa: S314 - i-PI's own
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1 and node.tag == "step":
                    return int(node.text or "")
    except (OSError, ValueError, ET.ParseError):
        pass
    return None


def final_state_error(restart: Path, properties: Mapping[str, float], hottest: float) -> str:
    """The error in the state in which i-PI ended; "" if there is none.

    `properties` are the last that i-PI printed; `restart` may be missing.
    """
    for name, value in properties.items():
        if not math.isfinite(value):
            return f"the last {name} that i-PI printed is {value}"
    temperature = properties.get("temperature", 0.0)
    if temperature > hottest:
        return _hot(temperature, hottest)
    try:
        if restart.is_symlink() or restart.stat().st_size > _LARGEST:
            return ""
        systems = ET.parse(restart).getroot().findall("system")  # noqa: S314 - i-PI's own
    except (OSError, ET.ParseError):
        return ""
    for system in systems:
        beads = system.find("beads")
        if beads is not None and (wrong := _wrong_beads(beads, hottest)):
            return wrong
    return ""


def _wrong_beads(beads: ET.Element, hottest: float) -> str:
    places, momenta, masses = (_numbers(beads, tag) for tag in ("q", "p", "m"))
    for what, numbers in (("positions", places), ("momenta", momenta)):
        if not np.isfinite(numbers).all():
            return f"not all {what} of i-PI's RESTART are finite"
    if len(places) and np.abs(places).max() > _FAR:
        return f"an atom of i-PI's RESTART is {np.abs(places).max():.3g} bohr from the origin"
    if not len(momenta) or not len(masses) or len(momenta) % (3 * len(masses)):
        return ""
    squares = momenta.reshape(-1, len(masses), 3) ** 2 / masses[:, None]
    temperature = float(squares.mean()) * _KELVIN
    return _hot(temperature, hottest) if temperature > hottest else ""


def _hot(temperature: float, hottest: float) -> str:
    return f"the temperature is {temperature:.3g} K; the limit is {hottest:g} (limits.temperature)"


def _numbers(beads: ET.Element, tag: str) -> Scalars:
    """A list of numbers of a RESTART; empty if it is missing or malformed."""
    text = (beads.findtext(tag) or "").replace("[", " ").replace("]", " ").replace(",", " ")
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError:
        return np.empty(0)
