"""The tables of mix.toml as typed values; `region_schema` has those of [region] and [mixing].

Each key is documented where it is declared; the reference page is made from these texts. Energies
are in eV, lengths in Å, durations name their unit. Reads no files: see `load`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mixserver.config.region_schema import (
    Count,
    Mixing,
    NotNegative,
    Positive,
    Region,
    Several,
    Table,
)


class Channels(Table, frozen=True):
    """Further addresses of i-PI that receive a part of the mixed potential."""

    cheap: str | tuple[str, ...] = ()
    """Addresses that receive the cheap potential alone, for the inner steps of multiple time
    stepping."""
    correction: str | tuple[str, ...] = ()
    """Addresses that receive mixed minus cheap, for the outer steps or for few beads."""


class Upstream(Table, frozen=True):
    """Where i-PI (or ASE's SocketIOCalculator) listens, and what it simulates."""

    structure: str
    """File with the atoms (any format that ASE reads), in i-PI's order."""
    address: str | tuple[str, ...] = ()
    """Address of i-PI's ffsocket, or a list of several: "unix:NAME" (the socket file is
    sockets_prefix + NAME) or "HOST:PORT". May be left out if a channel has one."""
    labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    """Element symbols of atom labels that are not elements, such as { OW = "O" }. Isotopes (D, T,
    C13 ...) are known."""
    periodic: bool | tuple[bool, bool, bool] | None = None
    """Whether the system repeats along the lattice vectors: one value for all, or three. Default:
    true, or what the structure file specifies if the images are too far away to matter."""
    channels: Channels = Channels()
    """Addresses that receive a part of the mixed potential."""
    mismatch: Literal["refuse", "warn"] = "refuse"
    """What to do if the first positions are not those of the structure: another cell or unit, atoms
    in another order. "refuse" ends the run; "warn" continues, for a start that is intended."""
    sockets_prefix: str = "/tmp/ipi_"  # noqa: S108 - i-PI's own default
    """What i-PI puts before the name of a unix socket. Change it together with i-PI's."""
    insecure: bool = False
    """Whether `address` and the channels may be on other machines. i-PI's protocol has no keys
    and no encryption: anyone who can reach that port can read positions or pretend to be i-PI."""
    connections: Count = 1
    """Number of connections to each address. Raise it to evaluate i-PI's beads in parallel."""
    beads: Literal["announced", "ignored"] = "ignored"
    """"announced": i-PI names the bead before every request (0.1 ms). Needed for a region with
    memory if there are several beads."""
    force_timeout_s: Positive = 3600.0
    """Longest time in seconds that a request may wait for its answer. Raise it if one evaluation
    may take longer."""
    first_contact_s: NotNegative = 0.0
    """Seconds to wait for i-PI to appear before the run is given up; 0 waits without limit."""
    later_contact_s: NotNegative = 3600.0
    """Seconds to wait for an i-PI that left without EXIT (killed, crashed; ASE never sends it)
    before the run is given up; 0 waits without limit."""


class Model(Table, frozen=True):
    """What the workers of one role must be."""

    fingerprint: str = ""
    """Fingerprint that workers must have, of the model's files and settings together. `mixserver
    check` prints it, `mixserver serve` logs it. Default: that of the first worker that joins."""
    receptive_field: float | None = None
    """Å. Give it for a model that does not report its own (a stock client, an ASE calculator)."""
    species: tuple[str, ...] | None = None
    """Elements that the model knows; a structure with any other is refused before anything is
    evaluated. Give it for a model that does not report them."""


class ExpensiveModel(Model, frozen=True):
    """What the workers of the expensive model must be, and the sizes of their jobs."""

    max_sites: Count | None = None
    """Most core and blend atoms of one job. A larger cluster is split into parts, each with its own
    buffer and halo, which all workers of the role share. With force mixing the buffers of two parts
    overlap and are evaluated twice. Default: no limit."""
    min_sites: Count = 1
    """Clusters with fewer core and blend atoms than this are evaluated together in one job."""
    batch_sites: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Jobs of several beads that come within 2 ms are evaluated in one call of the engine, up to so
    many sites with a weight in total; 0: each alone. For small regions and torch engines. Results
    then depend, by rounding, on which jobs came together."""


class Models(Table, frozen=True):
    """One or two models. With one, mixserver passes its results through unchanged."""

    cheap: Model | None = None
    """The model of the whole system."""
    expensive: ExpensiveModel | None = None
    """The model of the region."""


class Workers(Table, frozen=True):
    """Where workers connect, and when they are given up."""

    door: str = "tcp://127.0.0.1:0"
    """ZeroMQ address to bind for mixserver's own workers, such as "tcp://0.0.0.0:5555", which needs
    `keys`. Port 0 selects a free port; `mixserver run` replaces the default by a private socket."""
    keys: str = ""
    """Folder of CURVE keys, as `mixserver keys new NAME` makes it; relative to this file. Then only
    workers with a key of its list can connect, and everything is encrypted. Needed for a `door`
    that other machines can reach."""
    insecure: bool = False
    """Whether `clients` may be an address that other machines can reach. i-PI's protocol has no
    keys and no encryption: anyone who can reach that port can join and give any forces."""
    clients: str = ""
    """Address to bind for stock i-PI clients (LAMMPS's fix ipi, ASE): "unix:NAME" or "HOST:PORT".
    Default: none."""
    clients_role: Literal["cheap", "expensive"] = "cheap"
    """Role of the stock clients."""
    clients_geometry: Literal["as_sent", "standard"] | None = None
    """What stock clients receive. "as_sent": positions and cell as i-PI sent them. "standard":
    atoms wrapped into the cell, and the cell rotated so that a is along x and b in the xy plane, as
    LAMMPS needs it. Default: "as_sent" without a [region]; with one always "standard"."""
    clients_probe: bool | None = None
    """Whether to test a stock client before its first result counts, with one or two evaluations
    more: that all atoms are present, no others are, and the elements are in the structure's order.
    Default: the first client always, the others with a [region]."""
    patience_s: Positive = 5.0
    """Seconds of silence after which a worker counts as lost; at least twice heartbeat_s. Raise it
    on networks with long interruptions."""
    heartbeat_s: Positive = 1.0
    """Seconds between two heartbeats of the server and of the workers."""
    first_worker_s: Positive = 120.0
    """With when_none = "stop": seconds to wait for the first worker of a role. Raise it for models
    that take long to load."""
    join_s: NotNegative = 900.0
    """Seconds that a worker of [[local]] may take to join after its start before it is given up and
    its log quoted; 0 waits without limit. Large models on slow disks take minutes."""
    failures: Count = 3
    """Number of workers that one job may bring down before the job itself is taken for the cause
    and the run ends."""
    job_timeout_s: Positive = 1800.0
    """Seconds after which a job is also given to another worker. A worker that takes twice as long
    is ended, and a local one restarted."""
    second_copy: float = 4.0
    """A job that takes longer than so many times the median of the latest jobs of its role and
    size, and longer than 2 s, is also given to an idle worker; the first result counts. 0: never.
    """
    audit: int = 0
    """Every so manyth evaluation is repeated by a second worker of each role, in another process. A
    difference beyond the rounding of the models' precision ends the run, and both results are saved
    as spot-check.npz. 1000 costs a thousandth of the time; 0: no such checks."""
    when_none: Literal["hold", "stop"] = "hold"
    """If a role has no workers left: "hold" waits (i-PI waits too), "stop" ends the run."""


class Local(Table, frozen=True):
    """A worker that `mixserver run` starts on this machine."""

    role: Literal["cheap", "expensive"]
    """Which model it evaluates."""
    command: Several[str]
    """Arguments of mixserver-worker, such as ["lammps", "si.in"]; the address is added."""
    count: Count = 1
    """Number of such workers."""
    mpi: Count = 1
    """Number of MPI ranks; more than one starts the worker under mpiexec."""
    threads: Count = 1
    """Threads per rank (OMP_NUM_THREADS and MKL_NUM_THREADS)."""
    environment: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    """Environment variables to add."""
    restarts: int = 3
    """How often the worker is restarted after it ended."""


class Limits(Table, frozen=True):
    """Bounds beyond which mixing ends the run instead of sending a result.

    inf (shortest_pair: 0) switches a bound off. They hold where two models are mixed; with one
    model nothing is checked.
    """

    energy_change: Positive = 100.0
    """eV per atom by which an energy may differ from the first one of the run."""
    force: Positive = 200.0
    """eV/Å on an atom. Close pairs may add 20 times the repulsion of their bare nuclei."""
    pressure: Positive = 10000.0
    """GPa, from the virial alone."""
    shortest_pair: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.1
    """Shortest distance of two atoms, as a fraction of the sum of their covalent radii."""
    density: Positive = 5.5
    """Highest density, as a multiple of that of the elements at ambient pressure. Also refuses a
    structure in which most atoms are closer than 0.56 of the sum of two covalent radii."""
    dead_load: Positive = 20.0
    """eV/Å, for the largest dead load, and the largest ghost force of a case that passes `mixserver
    check`."""
    zero_spread: Positive = 20.0
    """eV by which the site-energy difference of the models may vary among the atoms that determine
    the energy offset of an element."""
    temperature: Positive = 1e6
    """K, as i-PI prints it during the run and at its end; of a ring polymer, of all its beads."""


class Warnings(Table, frozen=True):
    """Bounds beyond which a run warns, of each cause once, and goes on.

    Warnings are on the terminal, in server.log, in warnings.jsonl of the run's folder and in
    `mixserver status`. inf (shortest_pair: 0) switches one off.
    """

    temperature: Positive = 0.3
    """Fraction of the thermostat's target by which the temperature of all atoms or of the core may
    differ from it, as a mean over settle_ps."""
    settle_ps: Positive = 1.0
    """ps over which temperatures of 100 and more atoms are averaged. Those of fewer, n, fluctuate
    more and are averaged 100/n times as long. In the first mean a run may still heat up."""
    conserved: Positive = 0.002
    """eV per atom by which i-PI's conserved energy less the lambda work may differ from its first
    value in a run. Not looked at under force mixing, which conserves none."""
    work: Positive = 0.001
    """eV per atom of the whole system, of work by updates of lambda; 0.001 heats it by 4 K."""
    shortest_pair: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.5
    """Shortest distance of two atoms, as a fraction of the sum of their covalent radii: closer
    pairs are in the training data of few models."""
    region: Positive = 0.5
    """Fraction of all atoms that core and blend may have."""
    mismatch_growth: Positive = 2.0
    """Factor by which the difference of the models in the blend (rms, median of 100 recorded
    evaluations) may exceed that of the recorded evaluations 100 to 300."""
    slow_worker: Positive = 3.0
    """Factor by which a worker's jobs may take longer than its first ones."""


class Record(Table, frozen=True):
    """What is recorded about a run."""

    folder: str = "runs"
    """Folder in which every run makes a folder of its own."""
    every: Count = 1
    """Evaluations between two lines of the report."""
    regions_every: int = 0
    """Evaluations between two frames of lambda (extxyz, with the differences of the models); 0 for
    none. `mixserver distill` can fit them."""
    extras: bool = True
    """Whether to send scalars of the report to i-PI as extras."""


class Status(Table, frozen=True):
    """Where a running server can be asked how it is; read-only."""

    address: str = ""
    """ZeroMQ address to bind for `mixserver status`, such as "tcp://127.0.0.1:5556". Default: a
    socket in the run's own folder, which only this user on this machine can use."""
    metrics: str = ""
    """"HOST:PORT" at which Prometheus can read figures over HTTP, such as "127.0.0.1:9464". Needs
    the extra `metrics`. Default: nowhere."""


class Ipi(Table, frozen=True):
    """The i-PI that `mixserver run` starts."""

    input: str = "input.xml"
    """i-PI's input file."""
    environment: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    """Environment variables to add."""
    thermostat: Literal["everywhere", "cheap"] = "everywhere"
    """"everywhere": i-PI's thermostat as in its input. "cheap": the input's Langevin thermostat
    acts on each atom with the friction (1 - lambda)/tau, so not in the core."""


class Config(Table, frozen=True):
    """One mix.toml."""

    upstream: Upstream
    """Where i-PI listens, and what it simulates."""
    models: Models
    """The models to evaluate."""
    region: Region | None = None
    """Which atoms are expensive; needed for two models."""
    mixing: Mixing = Mixing()
    """How the results of the two models are combined."""
    workers: Workers = Workers()
    """Where workers connect, and when they are given up."""
    local: tuple[Local, ...] = ()
    """Workers that `mixserver run` starts on this machine."""
    limits: Limits = Limits()
    """Bounds beyond which a run ends."""
    warnings: Warnings = Warnings()
    """Bounds beyond which a run warns."""
    record: Record = Record()
    """What is recorded about a run."""
    status: Status = Status()
    """Where a running server can be asked how it is."""
    ipi: Ipi = Ipi()
    """The i-PI that `mixserver run` starts."""
