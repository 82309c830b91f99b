"""The protocol between the server and its workers: its messages. `worker_frames` has their bytes.

Units: Å, eV, eV/Å; cells are rows; the virial is W = -dE/dstrain = sum_i r_i (x) f_i (eV,
symmetric), positive where the system pushes outward.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

VERSION: Final = 4
"""Changes whenever a message changes; both ends must have the same."""

UNITS: Final = "angstrom,electronvolt"
"""Length and energy on this wire; forces are in eV/Å."""

STOCK_CLIENT: Final = "ipi-client"
"""`ModelCard.engine` of stock i-PI clients, which speak another protocol."""

Role: TypeAlias = Literal["cheap", "expensive"]
Blame: TypeAlias = Literal["input", "worker"]


class _Message(msgspec.Struct, frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True):
    """Common settings of all messages."""


class ModelCard(_Message, frozen=True, eq=False):
    """A worker's model, and what its engine can do with it."""

    engine: str
    """Which engine evaluates it: "lammps", "mace", "nequip", "metatomic", "ase",
    "toy"."""
    name: str
    """The model's name, for messages only."""
    fingerprint: str
    """sha256 (hex) of everything that defines the potential: files, settings, head, dtype."""
    species: tuple[int, ...] | None = None
    """Atomic numbers the model knows; None if it takes any."""
    cutoff: float | None = None
    """Å. How far one layer looks; None if unknown."""
    receptive_field: float | None = None
    """Å. How far a *site energy* looks: layers x cutoff; None if unknown or infinite."""
    weights: bool = False
    """True if `Evaluate.weight` is honoured exactly, gradient and virial included."""
    no_weights: str = ""
    """Why `weights` is False, for people."""
    energies: bool = False
    """True if unweighted site energies can be returned, of sites with w = 0 too if wanted."""
    criteria: bool = False
    """True if `Evaluate.criterion` (a LAMMPS per-atom compute) can be evaluated."""
    replicas: bool = False
    """True if `Evaluate.replica` is honoured: several structures in one job."""
    dtype: str = "float64"
    """Precision it computes in."""
    units: str = UNITS
    """Units of its lengths and energies, stated so that the server can check them."""


# Without its defaults, a server of another version still reads it and can say which it wants.
class Hello(_Message, frozen=True, eq=False, tag="hello", omit_defaults=True):
    """Worker to server, first: introduces the worker."""

    protocol: int
    role: Role
    name: str
    """Unique among the workers of a server: host, engine, process id."""
    model: ModelCard
    host: str = ""
    pid: int = 0
    started: float = 0.0
    """Unix time at which the process started: with `host` and `pid` it tells processes apart, also
    in containers, where ids repeat."""
    job: int | None = None
    """The job it still holds: it is being evaluated, or its result may not have arrived. A Result
    or Failure of it follows."""


class Welcome(_Message, frozen=True, eq=False, tag="welcome"):
    """Server to worker: you are accepted."""

    heartbeat_s: float
    """Send a Heartbeat at least this often."""
    patience_s: float
    """Silence after which either side counts the other as dead."""


class Refused(_Message, frozen=True, eq=False, tag="refused"):
    """Server to worker: you are rejected, for this reason. Do not join again unchanged."""

    reason: str


class Unknown(_Message, frozen=True, eq=False, tag="unknown"):
    """Server to worker: you have not joined (the server may have restarted). Send Hello again."""


class Heartbeat(_Message, frozen=True, eq=False, tag="heartbeat"):
    """Either way: a sign of life, sent at least every `Welcome.heartbeat_s`."""

    job: int | None = None
    """The job being evaluated, if any."""


class Evaluate(_Message, frozen=True, eq=False, tag="evaluate"):
    r"""Server to worker: evaluate :math:`E = \sum_i w_i e_i` and its gradient on all atoms sent."""

    job: int
    """Unique for a server and not guessable: only a worker that got the job can return it."""
    stream: int
    """Jobs of one stream follow one trajectory: the same atoms, moved a little. A hint only."""
    positions: NDArray[np.float64]
    """(n, 3) Å. May jump by lattice vectors between jobs of a stream."""
    numbers: NDArray[np.int32]
    """(n,) atomic numbers."""
    cell: NDArray[np.float64]
    """(3, 3) Å, rows are lattice vectors; any orientation and tilt, right-handed or not."""
    pbc: tuple[bool, bool, bool]
    weight: NDArray[np.float64] | None = None
    """(n,) site weights; None means 1 everywhere."""
    energies: bool = False
    """Return the unweighted site energies too: of sites with w != 0, and of those `wanted`."""
    wanted: NDArray[np.int32] | None = None
    """(n,) 1 where the site energy is wanted though w is 0, else 0; None means nowhere. Such a
    site adds exactly nothing to the energy, the forces and the virial."""
    criterion: str = ""
    """A LAMMPS per-atom compute without its ID and group, e.g. "coord/atom cutoff 2.9"."""
    parameters: str = ""
    """Without a region: i-PI's <parameters>, as its INIT has them. For stock clients."""
    rid: int = 0
    """Without a region: what i-PI's INIT calls the request. For stock clients."""
    replica: NDArray[np.int32] | None = None
    """(n,) ascending from 0: which of R structures an atom belongs to. Atoms of different ones do
    not interact. None means one structure."""
    cells: NDArray[np.float64] | None = None
    """(R, 3, 3) Å, the cell of each replica; `cell` is the first one's."""
    streams: NDArray[np.int32] | None = None
    """(R,) the stream of each replica."""

    def __post_init__(self) -> None:
        n = _count(self.positions, "Evaluate.positions")
        _shaped(self.numbers, (n,), np.int32, "Evaluate.numbers")
        _shaped(self.cell, (3, 3), np.float64, "Evaluate.cell")
        if self.weight is not None:
            _shaped(self.weight, (n,), np.float64, "Evaluate.weight")
        if self.wanted is not None:
            _shaped(self.wanted, (n,), np.int32, "Evaluate.wanted")
        if self.replica is not None:
            _check_replicas(self.replica, self.cells, self.streams, n)

    @property
    def replicas(self) -> int:
        """R, the number of structures."""
        return 1 if self.replica is None else int(self.replica[-1]) + 1

    @property
    def sites(self) -> NDArray[np.bool_]:
        """(n,) sites that must be evaluated: with a weight, or whose energy is wanted."""
        if self.weight is None:
            return np.ones(len(self.positions), np.bool_)
        active: NDArray[np.bool_] = self.weight != 0.0
        return active if self.wanted is None or not self.energies else active | (self.wanted != 0)


class Result(_Message, frozen=True, eq=False, tag="result"):
    """Worker to server: the result of one Evaluate."""

    job: int
    energy: float
    """eV. Sum of w_i e_i."""
    forces: NDArray[np.float64]
    """(n, 3) eV/Å. Minus the gradient of `energy` on every atom that was sent."""
    virial: NDArray[np.float64]
    """(3, 3) eV. -dE/dstrain, symmetric."""
    energies: NDArray[np.float64] | None = None
    """(n,) eV. Unweighted site energies; rows with w = 0 that are not wanted may be 0. Only if
    requested."""
    values: NDArray[np.float64] | None = None
    """(n,) the criterion's value per atom. Only if requested."""
    extras: str = ""
    """Extras of a stock i-PI client, as received."""
    seconds: float = 0.0
    """Wall time of the engine."""
    replica_energies: NDArray[np.float64] | None = None
    """(R,) eV, of each replica. Only if the job has some; so are the virials."""
    virials: NDArray[np.float64] | None = None
    """(R, 3, 3) eV."""

    def __post_init__(self) -> None:
        n = _count(self.forces, "Result.forces")
        _shaped(self.virial, (3, 3), np.float64, "Result.virial")
        if self.replica_energies is not None or self.virials is not None:
            _check_parts(self.replica_energies, self.virials)
        for name, array in (("energies", self.energies), ("values", self.values)):
            if array is not None:
                _shaped(array, (n,), np.float64, f"Result.{name}")


class Failure(_Message, frozen=True, eq=False, tag="failure"):
    """Worker to server: this job could not be evaluated."""

    job: int
    blame: Blame
    """"input": the job is at fault. "worker": the worker is; the job goes to another one."""
    message: str


class Goodbye(_Message, frozen=True, eq=False, tag="goodbye"):
    """Either way: the sender leaves. A worker that receives it ends; its jobs go to others."""

    reason: str = ""


Message: TypeAlias = (
    Hello | Welcome | Refused | Unknown | Heartbeat | Evaluate | Result | Failure | Goodbye
)


def _count(array: NDArray[np.float64], name: str) -> int:
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype != np.float64:
        raise ValueError(f"{name} must be (n, 3) float64, got {array.shape} {array.dtype}")
    return int(array.shape[0])


def _check_replicas(
    replica: NDArray[np.int32],
    cells: NDArray[np.float64] | None,
    streams: NDArray[np.int32] | None,
    n: int,
) -> None:
    _shaped(replica, (n,), np.int32, "Evaluate.replica")
    if not n or replica[0] != 0 or not np.isin(np.diff(replica), (0, 1)).all():
        raise ValueError("Evaluate.replica must ascend from 0 by steps of 1")
    count = int(replica[-1]) + 1
    if cells is None or streams is None:
        raise ValueError("a job of several replicas needs Evaluate.cells and Evaluate.streams")
    _shaped(cells, (count, 3, 3), np.float64, "Evaluate.cells")
    _shaped(streams, (count,), np.int32, "Evaluate.streams")


def _check_parts(energies: NDArray[np.float64] | None, virials: NDArray[np.float64] | None) -> None:
    if energies is None or virials is None or energies.ndim != 1:
        raise ValueError("Result.replica_energies (R,) and Result.virials (R, 3, 3) come together")
    _shaped(energies, energies.shape, np.float64, "Result.replica_energies")
    _shaped(virials, (len(energies), 3, 3), np.float64, "Result.virials")


def _shaped(array: NDArray[Any], shape: tuple[int, ...], dtype: Any, name: str) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
        )
