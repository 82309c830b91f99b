"""The tables of distill.toml as typed values, each key documented where it is declared.

Lengths in Å, energies in eV, temperatures in K; durations have their unit in their name.
`load` reads and checks the file.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of all tables."""


class Expensive(_Table, frozen=True):
    """Workers of the expensive model: `command` starts them here, or `door` lets others in."""

    command: tuple[str, ...] = ()
    """Arguments of mixserver-worker, as in a [[local]] table of mix.toml, e.g.
    ["mace", "si.model", "--dtype", "float64"]. Files in it are relative to distill.toml."""
    count: int = 2
    """Number of workers to start."""
    threads: int = 1
    """Threads of each worker."""
    environment: dict[str, str] = {}
    """Environment variables to add for the workers."""
    door: str = ""
    """Instead of `command`: a ZeroMQ address to bind, e.g. "tcp://0.0.0.0:5555", where workers
    from elsewhere connect with --role expensive."""
    keys: str = ""
    """Folder of CURVE keys for `door`, as `mixserver keys new NAME` makes it. Needed if other
    machines can reach the door."""
    fingerprint: str = ""
    """Fingerprint that the workers' model must have; "" takes that of the first worker to join."""


class Potential(_Table, frozen=True):
    """The SNAP to fit, in LAMMPS's terms."""

    twojmax: int = 4
    """2J, the resolution: 2, 4, 6 or 8. The cost grows with about its third power."""
    cutoff: float = 4.7
    """rcutfac, Å; with radii of 0.5 it is the cutoff. Best between two shells of neighbours."""
    elements: tuple[str, ...] = ()
    """Elements in the order of the blocks of coefficients; [] takes those of the structure."""
    radii: tuple[float, ...] = ()
    """Relative radii, one per element; [] is 0.5 each."""
    weights: tuple[float, ...] = ()
    """Weights of the neighbour density, one per element; [] is 1 each."""
    rfac0: float = 0.99363
    """LAMMPS's rfac0."""
    rmin0: float = 0.0
    """LAMMPS's rmin0, Å."""
    quadratic: bool = False
    """Include products of descriptors: lower force errors for about a tenth of the cost."""
    bzero: bool = True
    """LAMMPS's bzeroflag: the descriptors of an isolated atom are zero."""
    reference: str = ""
    """File of LAMMPS commands (pair_style and pair_coeff, e.g. of zbl or a table) of a fixed
    potential to which the SNAP is added; "" for none. Relative to distill.toml."""


class Soft(_Table, frozen=True):
    """The training set: snapshots of the crystal at finite temperature, fitted in least squares."""

    temperatures: tuple[float, ...] = (300.0, 600.0, 900.0)
    """K, of the MD runs that are sampled."""
    atoms: int = 200
    """Least number of atoms in the supercell."""
    snapshots: int = 12
    """Snapshots per temperature, over all copies."""
    copies: int = 1
    """Independent trajectories per temperature."""
    equilibration_ps: float = 0.4
    """Time before sampling begins."""
    every_ps: float = 0.1
    """Time between two snapshots of a trajectory."""
    timestep_fs: float = 2.0
    """Time step of the MD."""
    friction_fs: float = 100.0
    """Time constant of the Langevin thermostat."""
    strained: int = 6
    """Number of snapshots that are randomly strained as well."""
    strain: float = 0.02
    """Largest component of these random strains."""
    vacancies: int = 2
    """Number of snapshots from which one atom is removed as well."""
    seed: int = 1
    """Seed of all random numbers of a distillation."""


class Given(_Table, frozen=True):
    """Your own structures, fitted with the training set. Labels in the files are ignored."""

    files: tuple[str, ...] = ()
    """Files that ASE reads, with one frame or many, such as `regions.xyz` of a run. Relative to
    distill.toml."""
    most: int = 24
    """Largest number of frames over all files; they are evenly chosen."""


class Hold(_Table, frozen=True):
    """The stability test: MD of the crystal with the new potential.

    If an atom leaves its site, frames around that moment are labelled and fitted, and the test is
    repeated.
    """

    ps: float = 3.0
    """Length of each trajectory in ps; 0 for no test."""
    copies: int = 4
    """Number of trajectories."""
    temperature: float = 0.0
    """K; 0 takes 1.2 times the highest of soft.temperatures."""
    rounds: int = 4
    """How often the potential may be fitted again; 0 only reports."""


class Pair(_Table, frozen=True):
    """A pair potential that is fitted together with the SNAP. It costs little."""

    functions: int = 40
    """B-splines per pair of elements; 0 for no pair potential."""
    cutoff: float = 6.3
    """Å, beyond the SNAP's, to cover the longer range of the expensive model."""


class Hard(_Table, frozen=True):
    """Constraints of the fit: the perfect crystal, and the same under small strains."""

    strain: float = 0.002
    """Size of each of the six strains, applied in both directions."""
    lattice: bool = True
    """Constrain energy and stress of the perfect crystal to the expensive model's."""
    elastic: bool = True
    """Constrain the elastic constants, and the relaxation of the atoms under strain."""
    form: Literal["exact", "tolerance"] = "exact"
    """"exact": constraints hold to rounding. "tolerance": their rms residual is at most `alpha`,
    and within that the training set decides."""
    alpha: float = 1e-3
    """For "tolerance": 1 is 1 eV of a cell's energy, 1 GPa of stress, 100 GPa of an elastic
    constant."""


class Partition(_Table, frozen=True):
    """How the energy is divided among the atoms, which causes ghost forces."""

    regions: int = 12
    """Number of random regions in the perfect crystal whose ghost forces are fitted; 0 for none."""
    weight: float | Literal["auto"] = "auto"
    """Weight of ghost forces relative to forces (mean squares). "auto" takes the least ghost force
    that raises the force error by no more than `price`."""
    price: float = 0.2
    """For "auto": allowed relative increase of the force error."""
    strain: float = 0.02
    """Also fit the change of ghost forces under a strain of this size; 0 for none."""
    groups: int = 4
    """Number of groups into which the atoms of a snapshot are divided; 1 for none."""
    hot: float = 0.1
    """Weight of the forces of such groups relative to forces of whole structures."""


class Fit(_Table, frozen=True):
    """Weights of the training set in the least squares, of mean squares over all rows of a kind."""

    energy: float = 30.0
    """Weight of energies per atom (eV)."""
    force: float = 1.0
    """Weight of forces (eV/Å)."""
    virial: float = 1.0
    """Weight of virials per atom (eV)."""
    smooth: float = 1e-3
    """Weight of second differences of the pair functions (eV), which keeps them smooth at distances
    without data."""
    ridge: float | Literal["auto"] = "auto"
    """Ridge regularisation; "auto" chooses it by the validation set."""
    validation: float = 0.15
    """Fraction of the training structures that is held out for validation, and as many again for
    testing."""


class Sweep(_Table, frozen=True):
    """What `--sweep` compares."""

    twojmax: tuple[int, ...] = (2, 4, 6, 8)
    """Resolutions 2J."""
    cutoffs: tuple[float, ...] = (4.3, 4.7, 5.2)
    """SNAP cutoffs, Å."""


class Recipe(_Table, frozen=True):
    """One distill.toml."""

    name: str
    """Name of the potential and its files: NAME.in, NAME.snapcoeff, NAME.snapparam."""
    structure: str
    """File of a bulk crystal (any format that ASE reads): a primitive or conventional cell. A
    supercell is refused, and the message names the cell that it repeats."""
    expensive: Expensive
    folder: str = "distilled"
    """Folder of all results, relative to distill.toml."""
    compare: tuple[str, ...] = ()
    """Files of LAMMPS commands of other potentials to compare with, such as a stock SNAP."""
    potential: Potential = Potential()
    pair: Pair = Pair()
    soft: Soft = Soft()
    given: Given = Given()
    hold: Hold = Hold()
    hard: Hard = Hard()
    partition: Partition = Partition()
    fit: Fit = Fit()
    sweep: Sweep = Sweep()
