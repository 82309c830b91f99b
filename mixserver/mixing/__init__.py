"""What to ask the two models, and how their answers become one. Knows no workers."""

from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.force import ForceMixer, blend
from mixserver.mixing.loads import DeadLoads
from mixserver.mixing.mixer import Mixed, Mixer, Reach

__all__ = ["DeadLoads", "EnergyMixer", "ForceMixer", "Mixed", "Mixer", "Reach", "blend"]
