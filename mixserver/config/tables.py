"""The tables of mix.toml as typed values, each key documented where it is declared.

Lengths in Å, energies in eV; durations say their unit; evaluations are counted, not steps. Knows
no files: `load` reads and checks them.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of all tables."""


class Channels(_Table, frozen=True):
    """Further addresses of i-PI that are served a part of the mixed potential."""

    cheap: str | tuple[str, ...] = ()
    """The cheap potential alone, for the inner steps of multiple time stepping."""
    correction: str | tuple[str, ...] = ()
    """Mixed minus cheap, for the outer steps or for few beads."""


class Upstream(_Table, frozen=True):
    """Where i-PI (or ASE's SocketIOCalculator) listens."""

    structure: str
    """File that names the atoms (anything ASE reads), in i-PI's order."""
    address: str | tuple[str, ...] = ()
    """"unix:NAME" (the file is sockets_prefix + NAME) or "HOST:PORT"; several are served. May be
    left out if a channel has one."""
    labels: dict[str, str] = {}
    """Label of an atom -> element symbol, for labels that are not elements: { OW = "O" }. Isotopes
    (D, T, C13 ...) are known."""
    periodic: bool | tuple[bool, bool, bool] | None = None
    """Whether the system repeats along the lattice vectors, for all three or each. Default: yes, or
    what the structure file says where its images are too far away to matter."""
    channels: Channels = Channels()
    mismatch: Literal["refuse", "warn"] = "refuse"
    """What to do if the first positions cannot be the structure's system: another cell or unit,
    atoms in another order. "warn": continue, this start is intended."""
    sockets_prefix: str = "/tmp/ipi_"  # noqa: S108 - i-PI's own default
    """What i-PI puts before a unix socket's name."""
    connections: int = 1
    """How many connections to each address (i-PI's beads are then asked in parallel)."""
    beads: Literal["announced", "ignored"] = "ignored"
    """"announced": ask i-PI to name the bead before every request (0.1 ms); needed for memory
    per bead under force mixing."""
    force_timeout_s: float = 3600.0
    """No request stays unanswered longer than this."""
    first_contact_s: float = 0.0
    """Give up if i-PI has not appeared after this; 0 waits for ever."""
    later_contact_s: float = 3600.0
    """Give up if i-PI left without EXIT (killed, crashed; ASE never sends it) and has not come back
    after this; 0 waits for ever."""


class AtomSeeds(_Table, frozen=True, tag_field="kind", tag="atoms"):
    """Seeds by atom index."""

    indices: tuple[int, ...]
    """Counted from 0, in i-PI's order."""


class SpeciesSeeds(_Table, frozen=True, tag_field="kind", tag="species"):
    """Seeds by chemical element."""

    elements: tuple[str, ...]


class SphereSeeds(_Table, frozen=True, tag_field="kind", tag="sphere"):
    """A sphere fixed in space: its inside is core."""

    centre: tuple[float, float, float]
    """Å, or fractions of the cell if `fractional`. Å are of upstream.structure: they turn with the
    cell, where i-PI's has another orientation, but do not stretch with it."""
    radius: float
    fractional: bool = False


class SlabSeeds(_Table, frozen=True, tag_field="kind", tag="slab"):
    """A slab fixed in space, between two planes normal to a lattice plane."""

    axis: Literal["a", "b", "c"]
    """The slab is normal to the planes spanned by the other two lattice vectors."""
    low: float
    """Fraction of the cell along `axis`."""
    high: float


class CylinderSeeds(_Table, frozen=True, tag_field="kind", tag="cylinder"):
    """An endless cylinder along a lattice vector, fixed in space."""

    axis: Literal["a", "b", "c"]
    centre: tuple[float, float, float]
    """A point on its axis, as of a sphere."""
    radius: float
    fractional: bool = False


class CriterionSeeds(_Table, frozen=True, tag_field="kind", tag="criterion"):
    """Seeds are the atoms for which a LAMMPS per-atom compute lies within bounds."""

    compute: str
    """Without ID and group, e.g. "coord/atom cutoff 2.9", "centro/atom 8", "cna/atom 3.8"."""
    low: float = float("-inf")
    high: float = float("inf")
    """Seeds have low <= value <= high, both in the compute's own unit."""
    every: int = 10
    """Evaluations between two choices of seeds."""
    sample_every: int = 1
    """Distance between the samples of the time average, in evaluations."""
    samples: int = 1
    """How many samples are averaged; samples x sample_every <= every."""
    initial: tuple[int, ...] | None = None
    """Seeds until the first choice; without it the first evaluation chooses."""
    species: tuple[str, ...] | None = None
    """Only atoms of these elements can become seeds."""


Seeds = AtomSeeds | SpeciesSeeds | SphereSeeds | SlabSeeds | CylinderSeeds | CriterionSeeds


class Hysteresis(_Table, frozen=True):
    """Lambda follows its target with a delay, counted in evaluations (as ML-MIX counts time)."""

    time_in: float
    """Evaluations in which lambda rises towards 1."""
    time_out: float
    """Evaluations in which lambda falls towards 0."""


class Region(_Table, frozen=True):
    """Which atoms are expensive, and how much."""

    seeds: Seeds
    core_radius: float
    """Å around every seed: lambda = 1 (of a sphere, slab or cylinder: around its surface)."""
    blend_width: float
    """Å over which lambda falls from 1 to 0."""
    follow: bool = False
    """Energy mixing only. True: lambda is a smooth function of the distances to the seed atoms.
    False: each atom keeps the lambda it has in upstream.structure."""
    buffer_width: float | Literal["exact"] = "exact"
    """Å beyond the blend in which site energies are expensive too, so that forces in the blend
    are right. "exact" is the receptive field of the expensive model."""
    halo_width: float | Literal["exact"] = "exact"
    """Å of surroundings sent along beyond the buffer, with weight 0."""
    allow_thin_buffer: bool = False
    """Say true to accept a buffer or halo thinner than exact, after measuring the error."""
    profile: Literal["linear", "cubic", "quintic"] = "quintic"
    measure_from: Literal["seed", "core"] = "seed"
    """Blend measured from the seeds, or (ML-MIX) from the nearest core atom."""
    hysteresis: Hysteresis | None = None


class Mixing(_Table, frozen=True):
    """How the two answers become one."""

    kind: Literal["energy", "force"] = "energy"
    """"energy": one true potential energy, so that everything i-PI can do is right. "force": needs
    nothing but forces of both models, but no energy is conserved."""
    zero_net: Literal["blended", "all", "off"] = "blended"
    """Force mixing: over which atoms the net force is taken away, so that momentum is conserved."""
    zeros: dict[str, float] = {}
    """Energy mixing: eV per element by which the expensive site energies lie above the cheap ones.
    Elements that are not named are aligned at the structure's own positions."""
    dead_loads: Literal["structure", "relaxed", "off"] | None = None
    """Energy mixing with frozen lambda: constant forces that take the ghost forces away at the
    structure's positions, or at these relaxed. Default: "structure" where lambda is frozen by atom
    index, "off" elsewhere."""
    bulk: str | None = None
    """File of a bulk cell (anything ASE reads) in which `mixserver check` compares both models.
    Default: the smallest cell that repeats in upstream.structure."""


class Model(_Table, frozen=True):
    """What is demanded of the workers of one role."""

    fingerprint: str = ""
    """What workers must have; "" takes the first that joins, and then only the same. It is of the
    model's files and settings together: `mixserver check` prints it, `mixserver serve` logs it."""
    receptive_field: float | None = None
    """Å, for a model that does not say (a stock client, an ASE calculator)."""
    species: tuple[str, ...] | None = None
    """Elements it knows; a structure with any other is refused before anything is evaluated."""


class Models(_Table, frozen=True):
    """One or two models. With one, mixserver is a plain proxy to it."""

    cheap: Model | None = None
    expensive: Model | None = None


class Workers(_Table, frozen=True):
    """Where workers connect, and when they are given up."""

    door: str = "tcp://127.0.0.1:0"
    """ZeroMQ address to bind for mixserver's own workers; port 0 picks a free one."""
    clients: str = ""
    """"unix:NAME" or "HOST:PORT" to bind for stock i-PI clients (fix ipi, ASE); "" for none."""
    clients_role: Literal["cheap", "expensive"] = "cheap"
    clients_geometry: Literal["as_sent", "standard"] | None = None
    """What stock clients get. "as_sent": positions and cell as i-PI sent them. "standard": atoms
    wrapped into the cell, and the cell turned so that a is along x and b in the xy plane, as LAMMPS
    needs it. Default: "as_sent" without a [region], always "standard" with one."""
    clients_probe: bool | None = None
    """Test a stock client before its first answer counts: whether atoms without force are there at
    all, whether it has others, and the elements in the structure's order (an evaluation or two
    more). Default: the first always, the others with a [region]."""
    patience_s: float = 5.0
    """Silence after which a worker counts as dead."""
    heartbeat_s: float = 1.0
    first_worker_s: float = 120.0
    """Under when_none = "stop": how long to wait for the first worker of a role; models take a
    while to load."""
    join_s: float = 900.0
    """How long a worker of [[local]] may take to join after it was started, before it is given up
    and its log quoted; 0 waits for ever. Large models on slow disks take minutes."""
    failures: int = 3
    """Workers one job may break before it is blamed itself."""
    job_timeout_s: float = 1800.0
    """A job that takes longer is given to another worker too; a worker that takes twice as long is
    ended, and a local one started again."""
    when_none: Literal["hold", "stop"] = "hold"
    """No worker left for a role, or none in time: wait (i-PI waits too), or stop the run."""


class Local(_Table, frozen=True):
    """A worker that `mixserver run` starts on this machine."""

    role: Literal["cheap", "expensive"]
    command: tuple[str, ...]
    """Arguments of mixserver-worker, e.g. ["lammps", "si.in"]; the address is added."""
    count: int = 1
    mpi: int = 1
    """Ranks; more than one starts it under mpiexec."""
    threads: int = 1
    environment: dict[str, str] = {}
    restarts: int = 3
    """How often it is started again after it died."""


class Limits(_Table, frozen=True):
    """Bounds beyond which mixing ends the run instead of sending an answer; inf (`shortest_pair`:
    0) switches one off. They hold where two models are mixed: nothing is kept from passing through.
    """  # noqa: D205 - one sentence

    energy_change: float = 100.0
    """eV per atom by which an energy may differ from the first one of the run."""
    force: float = 200.0
    """eV/Å on an atom. Close pairs may push 20 times as hard as bare nuclei do, on top of it."""
    pressure: float = 10000.0
    """GPa, of the virial alone."""
    shortest_pair: float = 0.1
    """Of the sum of two covalent radii."""
    density: float = 5.5
    """Times that of the elements at ambient pressure. Also refuses a structure in which most atoms
    are closer than 0.56 of the sum of two covalent radii."""
    dead_load: float = 20.0
    """eV/Å, the largest dead load, and the largest ghost force of a case that `check` lets pass."""
    zero_spread: float = 20.0
    """eV by which e - c may differ among the atoms that fix the zero of an element."""
    temperature: float = 1e6
    """K at which i-PI may end; of a ring polymer, that of its beads together."""


class Record(_Table, frozen=True):
    """What is written about a run."""

    folder: str = "runs"
    """Every run makes a new folder in here."""
    every: int = 1
    """Evaluations between two lines of the report."""
    regions_every: int = 0
    """Evaluations between two frames of lambda (extxyz, with how far apart the models were); 0 for
    none. `mixserver distill` can fit them."""
    extras: bool = True
    """Send scalars to i-PI as extras."""


class Ipi(_Table, frozen=True):
    """The i-PI that `mixserver run` starts."""

    input: str = "input.xml"
    """i-PI's input."""
    environment: dict[str, str] = {}
    """Added to i-PI's environment."""
    thermostat: Literal["everywhere", "cheap"] = "everywhere"
    """"cheap": the input's Langevin thermostat acts with the friction (1 - lambda)/tau on each
    atom, so not in the core."""


class Config(_Table, frozen=True):
    """One mix.toml."""

    upstream: Upstream
    models: Models
    region: Region | None = None
    mixing: Mixing = Mixing()
    workers: Workers = Workers()
    local: tuple[Local, ...] = ()
    limits: Limits = Limits()
    record: Record = Record()
    ipi: Ipi = Ipi()
