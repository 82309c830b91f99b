"""Which atoms are expensive, and how much: seeds, shells, profiles, memory."""

from mixserver.region.following import Following
from mixserver.region.frozen import Frozen
from mixserver.region.region import Pull, Pulled, Region
from mixserver.region.seeds import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Seeds,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.region.selecting import Due, Selecting
from mixserver.region.selector import Selector

__all__ = [
    "AtomSeeds",
    "CriterionSeeds",
    "CylinderSeeds",
    "Due",
    "Following",
    "Frozen",
    "Pull",
    "Pulled",
    "Region",
    "Seeds",
    "Selecting",
    "Selector",
    "SlabSeeds",
    "SpeciesSeeds",
    "SphereSeeds",
]
