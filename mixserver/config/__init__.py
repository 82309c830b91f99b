"""mix.toml: its tables as typed values (`tables`), and how they are read and checked (`load`)."""

from mixserver.config.load import Case, load_case
from mixserver.config.tables import (
    AtomSeeds,
    Config,
    CriterionSeeds,
    CylinderSeeds,
    Hysteresis,
    Ipi,
    Local,
    Mixing,
    Model,
    Models,
    Record,
    Region,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
    Upstream,
    Workers,
)

__all__ = [
    "AtomSeeds",
    "Case",
    "Config",
    "CriterionSeeds",
    "CylinderSeeds",
    "Hysteresis",
    "Ipi",
    "Local",
    "Mixing",
    "Model",
    "Models",
    "Record",
    "Region",
    "SlabSeeds",
    "SpeciesSeeds",
    "SphereSeeds",
    "Upstream",
    "Workers",
    "load_case",
]
