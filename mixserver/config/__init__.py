"""mix.toml: its tables as typed values (`schema`), and how they are read and checked (`load`)."""

from mixserver.config.load import Case, Channel, load_case
from mixserver.config.region_schema import (
    AtomSeeds,
    CriterionSeeds,
    CylinderSeeds,
    Hysteresis,
    Mixing,
    Region,
    SlabSeeds,
    SpeciesSeeds,
    SphereSeeds,
)
from mixserver.config.schema import (
    Channels,
    Config,
    ExpensiveModel,
    Ipi,
    Limits,
    Local,
    Model,
    Models,
    Record,
    Status,
    Upstream,
    Warnings,
    Workers,
)
from mixserver.config.validation import stock_client_warning

__all__ = [
    "AtomSeeds",
    "Case",
    "Channel",
    "Channels",
    "Config",
    "CriterionSeeds",
    "CylinderSeeds",
    "ExpensiveModel",
    "Hysteresis",
    "Ipi",
    "Limits",
    "Local",
    "Mixing",
    "Model",
    "Models",
    "Record",
    "Region",
    "SlabSeeds",
    "SpeciesSeeds",
    "SphereSeeds",
    "Status",
    "Upstream",
    "Warnings",
    "Workers",
    "load_case",
    "stock_client_warning",
]
