"""The pressure at which a case starts, and whether its ensemble lets it relax."""

from __future__ import annotations

from typing import Final

from mixserver.analysis.bulk.evaluate import EvaluateFn, gather_pair
from mixserver.analysis.checks.findings import Finding
from mixserver.config import Case
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.core.units import BOLTZMANN, GIGAPASCAL
from mixserver.ipi.dynamics import Dynamics, read_dynamics
from mixserver.server.reference.structure import find_ipi_input

_LARGE: Final = 1.0
"""GPa; it shifts the energy of a defect by 6 meV per Å³ of relaxation volume."""
_FIXED_VOLUME: Final = frozenset({"nve", "nvt", "nvt-cc"})
_GRUNEISEN: Final = 2.0
"""Of most crystals it is smaller, so their thermal pressure is, too."""
_USUAL: Final = 300.0
"""K, where the input names no temperature."""


async def check_pressure(
    case: Case, expensive: EvaluateFn, cheap: EvaluateFn, crystal: Frame, lattice: str
) -> Finding:
    """The pressure of both models in a crystal that has the strain of the structure.

    `lattice` describes the relaxed crystal of the expensive model, for the advice.

    Raises:
        MixserverError: a model failed.
    """
    results = await gather_pair(expensive(crystal), cheap(crystal))
    volume = crystal.volume * GIGAPASCAL
    pressures = [float(result.virial.trace()) / (3.0 * volume) for result in results]
    words = (
        f"{pressures[0]:+z.2f} GPa (expensive) and {pressures[1]:+z.2f} GPa (cheap) in the perfect "
        "crystal with the structure's strain, atoms at rest"
    )
    dynamics = _dynamics(case)
    if dynamics is None or dynamics.ensemble not in _FIXED_VOLUME:
        return Finding("ok", "pressure", words, pressures[0])
    temperature = dynamics.temperature or _USUAL
    thermal = 3.0 * _GRUNEISEN * len(crystal) * BOLTZMANN * temperature / volume
    if -_LARGE - thermal <= pressures[0] <= _LARGE:
        return Finding("ok", "pressure", words, pressures[0])
    sense = "compressed" if pressures[0] > 0.0 else "stretched"
    words += (
        f". The crystal is {sense}, and {dynamics.ensemble.upper()} keeps it so (at "
        f"{temperature:.4g} K thermal motion adds up to {thermal:.2g} GPa). If that is not meant, "
        f"scale the cell to the expensive model's lattice ({lattice}), or run NPT first"
    )
    return Finding("warning", "pressure", words, pressures[0])


def _dynamics(case: Case) -> Dynamics | None:
    """How the case's i-PI moves the atoms; None if that is not known here."""
    try:
        ipi = find_ipi_input(case)
        return None if ipi is None else read_dynamics(ipi.file)
    except ConfigError:
        return None  # reported with the files
