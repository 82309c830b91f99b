"""The tables [region] and [mixing] of mix.toml as typed values.

Each key is documented where it is declared; the reference page is made from these texts. Lengths
are in Å, energies in eV. Intervals are counted in evaluations of the potential, not in steps.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0.0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_Entry = TypeVar("_Entry")
Several = Annotated[tuple[_Entry, ...], msgspec.Meta(min_length=1)]
"""A list that is not empty."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of all tables."""


class AtomSeeds(Table, frozen=True, tag_field="kind", tag="atoms"):
    """Seeds by atom index."""

    indices: Several[int]
    """Indices of the seed atoms, counted from 0 in i-PI's order."""


class SpeciesSeeds(Table, frozen=True, tag_field="kind", tag="species"):
    """Seeds by chemical element."""

    elements: Several[str]
    """Element symbols; all atoms of these elements are seeds."""


class SphereSeeds(Table, frozen=True, tag_field="kind", tag="sphere"):
    """A sphere fixed in space: all atoms inside are core."""

    centre: tuple[float, float, float]
    """Å in the frame of upstream.structure, or fractions of the cell if `fractional` is true. Å
    turn with the cell if i-PI's cell has another orientation, but do not stretch with it."""
    radius: NotNegative
    """Å."""
    fractional: bool = False
    """True if `centre` is given in fractions of the cell."""


class SlabSeeds(Table, frozen=True, tag_field="kind", tag="slab"):
    """A slab fixed in space, between two lattice planes: all atoms inside are core."""

    axis: Literal["a", "b", "c"]
    """The slab is parallel to the planes spanned by the other two lattice vectors."""
    low: float
    """Lower boundary, as a fraction of the cell along `axis`."""
    high: float
    """Upper boundary, as a fraction of the cell along `axis`."""


class CylinderSeeds(Table, frozen=True, tag_field="kind", tag="cylinder"):
    """An endless cylinder along a lattice vector, fixed in space: all atoms inside are core."""

    axis: Literal["a", "b", "c"]
    """Lattice vector along which the cylinder runs."""
    centre: tuple[float, float, float]
    """A point on the cylinder's axis, given like the centre of a sphere."""
    radius: NotNegative
    """Å."""
    fractional: bool = False
    """True if `centre` is given in fractions of the cell."""


class CriterionSeeds(Table, frozen=True, tag_field="kind", tag="criterion"):
    """Seeds are the atoms for which a LAMMPS per-atom compute lies within bounds.

    The cheap worker computes it for all atoms. A `lammps` worker can; MACE and ASE workers and
    stock clients cannot.
    """

    compute: str
    """The LAMMPS compute without ID and group, e.g. "coord/atom cutoff 2.9", "centro/atom 8",
    "cna/atom 3.8"."""
    low: float = float("-inf")
    """Lower bound, in the compute's own unit. Seeds have low <= value <= high."""
    high: float = float("inf")
    """Upper bound, in the compute's own unit."""
    every: Count = 10
    """Evaluations between two selections of seeds. Raise it for fewer updates of lambda."""
    sample_every: Count = 1
    """Evaluations between two samples of the time average."""
    samples: Count = 1
    """Number of samples in the time average; samples x sample_every <= every. Raise it if thermal
    motion selects seeds by chance."""
    initial: tuple[int, ...] | None = None
    """Indices of the seeds until the first selection. Default: the first evaluation selects
    them."""
    species: tuple[str, ...] | None = None
    """Elements whose atoms can become seeds. Default: all."""


Seeds = AtomSeeds | SpeciesSeeds | SphereSeeds | SlabSeeds | CylinderSeeds | CriterionSeeds


class Hysteresis(Table, frozen=True):
    """Lambda follows its target with a delay, counted in evaluations (as ML-MIX counts time)."""

    time_in: Positive
    """Time constant, in evaluations, with which lambda rises towards 1."""
    time_out: Positive
    """Time constant, in evaluations, with which lambda falls towards 0."""


class Region(Table, frozen=True):
    """Which atoms are expensive, and by which fraction lambda."""

    seeds: Seeds
    """The atoms or bodies around which the region is built; `kind` selects one of the tables."""
    core_radius: NotNegative
    """Å around every seed in which lambda = 1 (of a sphere, slab or cylinder: around its
    surface)."""
    blend_width: NotNegative
    """Å over which lambda falls from 1 to 0."""
    follow: bool = False
    """Energy mixing only. True: lambda is a smooth function of the distances to the seed atoms, so
    the region moves with them. False: each atom keeps the lambda it has in upstream.structure."""
    buffer_width: float | Literal["exact"] = "exact"
    """Force mixing only: Å beyond the blend in which site energies are expensive too, so that
    forces in the blend are right. "exact" is the receptive field of the expensive model."""
    halo_width: float | Literal["exact"] = "exact"
    """Å of surroundings sent along beyond the buffer, with weight 0. "exact" is the receptive field
    of the expensive model."""
    allow_thin_buffer: bool = False
    """True accepts a buffer or halo thinner than exact. Set it only after measuring the error, for
    example with `mixserver check`."""
    profile: Literal["linear", "cubic", "quintic"] = "quintic"
    """How lambda falls over the blend. `follow = true` needs a smooth one, "cubic" or "quintic"."""
    measure_from: Literal["seed", "core"] = "seed"
    """"seed": the blend is measured from the seeds. "core": from the nearest core atom, as in
    ML-MIX."""
    hysteresis: Hysteresis | None = None
    """Delays changes of lambda. Default: none, lambda follows at once."""


class Mixing(Table, frozen=True):
    """How the results of the two models are combined."""

    kind: Literal["energy", "force"] = "energy"
    """"energy": one potential energy of which all forces are the gradient, so that everything i-PI
    can do is right. "force": needs only forces of both models, but conserves no energy."""
    zero_net: Literal["blended", "all", "off"] = "blended"
    """Force mixing only: atoms from which the net force is subtracted, so that momentum is
    conserved."""
    zeros: dict[str, float] = {}
    """Energy mixing only: eV per atom of each element by which the expensive site energies lie
    above the cheap ones. Elements that are not named are aligned at the positions of the
    structure."""
    dead_loads: Literal["structure", "relaxed", "off"] | None = None
    """Energy mixing with a frozen lambda: constant forces that cancel the ghost forces, at the
    positions of the structure or at these relaxed. Default: "structure" where lambda is frozen
    (neither `follow = true` nor a criterion), "off" elsewhere."""
    bulk: str | None = None
    """File of a bulk cell (anything ASE reads) in which `mixserver check` compares both models.
    Default: the smallest cell that repeats in upstream.structure."""
