"""Which atoms are expensive, and how much: seeds, shells, profiles, hysteresis."""

from mixserver.region.fixed import FixedRegion
from mixserver.region.protocol import Evaluation, RegionModel
from mixserver.region.region import GradLambdaForces, LambdaGradient, Region
from mixserver.region.seeds import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Seeds,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.region.shell_region import ShellRegion
from mixserver.region.smooth import SmoothRegion

__all__ = [
    "AtomSeeds",
    "CriterionSeeds",
    "CylinderSeeds",
    "Evaluation",
    "FixedRegion",
    "GradLambdaForces",
    "LambdaGradient",
    "Region",
    "RegionModel",
    "Seeds",
    "ShellRegion",
    "SlabSeeds",
    "SmoothRegion",
    "SpeciesSeeds",
    "SphereSeeds",
]
