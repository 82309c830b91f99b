"""What to ask the two models, and how their answers become one. Knows no workers."""

from mixserver.mixing.force import blend
from mixserver.mixing.mixer import ForceMixer, Mixed, Reach

__all__ = ["ForceMixer", "Mixed", "Reach", "blend"]
