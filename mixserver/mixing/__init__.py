"""Which jobs two models evaluate, and how their results become one. Knows no workers."""

from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.force import ForceMixer, blend
from mixserver.mixing.mixer import MixedResult, Mixer
from mixserver.mixing.model_capabilities import ModelCapabilities

__all__ = [
    "DeadLoads",
    "EnergyMixer",
    "ForceMixer",
    "MixedResult",
    "Mixer",
    "ModelCapabilities",
    "blend",
]
