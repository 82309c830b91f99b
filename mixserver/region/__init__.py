"""Which atoms are expensive, and how much: seeds, shells, profiles, memory."""

from mixserver.region.region import Region
from mixserver.region.seeds import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Seeds,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.region.selector import Due, Selector

__all__ = [
    "AtomSeeds",
    "CriterionSeeds",
    "CylinderSeeds",
    "Due",
    "Region",
    "Seeds",
    "Selector",
    "SlabSeeds",
    "SpeciesSeeds",
    "SphereSeeds",
]
