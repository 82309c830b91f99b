"""Energy offsets and dead loads of an earlier run or of `mixserver align`; and whether they can be.

They are determined in `mixing_setup` where there are none that fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import structlog
from ase.data import chemical_symbols

from mixserver.config import Config
from mixserver.core.errors import ConfigError, Implausible
from mixserver.core.frame import Frame
from mixserver.mixing.energy_reference import (
    EnergyReference,
    read_energy_reference,
    structure_digest,
)
from mixserver.server.reference.packing import Packing

log = structlog.get_logger(__name__)

ENERGY_REFERENCE: Final = "mixing.json"
"""Their file: in the folder of every run, and of a case if `mixserver align` wrote it."""

_WRONG_REFERENCE: Final = (
    "Look at the structure (units, overlapping atoms) and at what each model was fitted to; "
    "mixserver check shows both models at it. Each bound can be raised in [limits]"
)


def recall_energy_reference(
    start: Frame, settings: str, known: Path | None, kept: Path | None
) -> EnergyReference | None:
    """What was written before, if it fits.

    Args:
        start: the structure.
        settings: digest of models and settings, as `EnergyReference.settings`.
        known: of an earlier run that goes on; it must fit.
        kept: used if it fits, such as `mixserver align` wrote.

    Raises:
        ConfigError: `known` does not fit, or a file cannot be read.
    """
    topology = start.topology
    if known is not None and known.exists():
        found = read_energy_reference(known, topology)
        if found.settings != settings:
            raise ConfigError(
                f"{known} is of other models, or of other [region] or [mixing] settings: the "
                "potential would change in the middle of a run. Set them back, or start a "
                "fresh run"
            )
        return found
    if known is not None:
        log.warning("energy offsets and dead loads are determined again", missing=str(known))
    if kept is not None and kept.exists():
        found = read_energy_reference(kept, topology)
        if (found.settings, found.structure) == (settings, structure_digest(start)):
            return found
        log.warning("models, settings or structure have changed", not_used=str(kept))
    return None


def check_energy_reference(
    found: EnergyReference, config: Config, start: Frame, packing: Packing
) -> None:
    """Refuse energy offsets and dead loads that no two models can need.

    Raises:
        Implausible: they are beyond [limits]; the closest atoms of the structure are named.
    """
    limits, file, pair = config.limits, config.upstream.structure, packing.closest
    causes = ("" if pair is None else f"Its closest atoms: {pair}. ") + _WRONG_REFERENCE
    for symbol, zero in found.zeros.items():
        if zero.spread > limits.zero_spread:
            raise Implausible(
                f"the zero of {symbol} means nothing: expensive less cheap site energies "
                f"differ by {zero.spread:.4g} eV (standard deviation) among {zero.atoms} atoms "
                f"of {file}; the limit is {limits.zero_spread:g} (limits.zero_spread). {causes}"
            )
    loads = found.dead_loads
    if loads is not None and loads.largest > limits.dead_load:
        worst = int(loads.atoms[int(np.linalg.norm(loads.forces, axis=1).argmax())])
        symbol = chemical_symbols[int(start.topology.numbers[worst])]
        raise Implausible(
            f"dead loads of up to {loads.largest:.4g} eV/Å, on {symbol} (atom {worst}), would "
            f"be needed at {file}; the limit is {limits.dead_load:g} (limits.dead_load): no two "
            f"models that describe it divide its energy so differently. {causes}"
        )
