"""The tables of distill.toml as typed values, each key documented where it is declared.

Lengths in Å, energies in eV, temperatures in K; times say their unit. Knows no files: `reading`
reads and checks them.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of all tables."""


class Expensive(_Table, frozen=True):
    """Who is the expensive model: workers that are started here, or a door for others."""

    command: tuple[str, ...] = ()
    """Arguments of mixserver-worker, as in a [[local]] table of mix.toml, e.g.
    ["mace", "si.model", "--dtype", "float64"]. Files in it are relative to distill.toml."""
    count: int = 2
    """How many of them."""
    threads: int = 1
    """Of each."""
    environment: dict[str, str] = {}
    """Added to their environment."""
    door: str = ""
    """Instead of `command`: a ZeroMQ address to bind, e.g. "tcp://0.0.0.0:5555", where workers
    from elsewhere connect with --role expensive."""
    fingerprint: str = ""
    """What the workers' model must be; "" takes the first that joins."""


class Potential(_Table, frozen=True):
    """The SNAP that is made, in LAMMPS's words."""

    twojmax: int = 4
    """2J, the resolution: 2, 4, 6, 8. Costs grow about as its third power."""
    cutoff: float = 4.7
    """rcutfac, Å; with radii of 0.5 the cutoff. A short one divides the energy among atoms more
    like the expensive model does."""
    elements: tuple[str, ...] = ()
    """In the order of the coefficients' blocks; () is those of the structure, by symbol."""
    radii: tuple[float, ...] = ()
    """One per element; () is 0.5 each."""
    weights: tuple[float, ...] = ()
    """Neighbour density weight, one per element; () is 1 each."""
    rfac0: float = 0.99363
    rmin0: float = 0.0
    quadratic: bool = False
    """Products of descriptors too."""
    bzero: bool = True
    """An isolated atom has no descriptor."""
    reference: str = ""
    """File of LAMMPS commands (pair_style and pair_coeff, e.g. of zbl or a table) of a fixed
    potential on which the SNAP is laid; "" for none. Relative to distill.toml."""


class Soft(_Table, frozen=True):
    """The soft set: what is fitted as well as possible. Snapshots of the hot crystal."""

    temperatures: tuple[float, ...] = (300.0, 600.0, 900.0)
    """K."""
    atoms: int = 200
    """The supercell has at least so many."""
    snapshots: int = 12
    """Per temperature, over all copies."""
    copies: int = 1
    """Trajectories per temperature, with noise of their own."""
    equilibration_ps: float = 0.4
    """Before the first snapshot's interval begins."""
    every_ps: float = 0.1
    """Between two snapshots of a trajectory."""
    timestep_fs: float = 2.0
    friction_fs: float = 100.0
    """Time constant of the Langevin thermostat."""
    strained: int = 6
    """How many snapshots are strained at random as well."""
    strain: float = 0.02
    """Largest component of such a strain."""
    vacancies: int = 2
    """How many snapshots have one atom removed as well."""
    seed: int = 1
    """Of everything that is random in a distillation."""


class Given(_Table, frozen=True):
    """Structures from files, fitted along with the soft set. Labels in the files are not used."""

    files: tuple[str, ...] = ()
    """Anything ASE reads, one frame or many: `regions.xyz` of a run, cells with defects. Relative
    to distill.toml."""
    most: int = 24
    """Frames over all files at most, evenly chosen."""


class Hold(_Table, frozen=True):
    """Whether the crystal holds in the cheap potential's own dynamics.

    Where it does not, frames of what went wrong are labelled and fitted, and it is tried again.
    """

    ps: float = 3.0
    """Of each trajectory; 0 for none."""
    copies: int = 4
    """Trajectories."""
    temperature: float = 0.0
    """K; 0 for 1.2 times the highest of soft.temperatures."""
    rounds: int = 4
    """How often it may be fitted again; 0 only tells."""


class Pair(_Table, frozen=True):
    """A pair potential that is fitted along with the SNAP. It costs next to nothing."""

    functions: int = 40
    """B-splines for each pair of elements; 0 for no pair potential."""
    cutoff: float = 6.3
    """Å. Past the SNAP's: it makes up for what the expensive model sees beyond that."""


class Hard(_Table, frozen=True):
    """The hard set: what must come out right. The perfect crystal, and the same strained."""

    strain: float = 0.002
    """Of each of the 6 kinds, both ways."""
    lattice: bool = True
    """The perfect crystal has the expensive model's energy and stress."""
    elastic: bool = True
    """It has the expensive model's elastic constants, and its atoms relax alike under strain."""
    form: Literal["exact", "tolerance"] = "exact"
    """"exact": equations that hold. "tolerance": their rms residual is at most `alpha`, and the
    soft set decides within that."""
    alpha: float = 1e-3
    """For "tolerance": 1 is 1 eV of a cell's energy, 1 GPa of stress, 100 GPa of an elastic
    constant."""


class Partition(_Table, frozen=True):
    """How the energy is divided among atoms: what ghost forces are made of."""

    regions: int = 12
    """Regions in the perfect crystal whose ghost forces are fitted; 0 for none."""
    weight: float | Literal["auto"] = "auto"
    """Of ghost forces beside forces (mean squares); "auto" takes the least ghost force that does
    not raise the force error by more than `price`."""
    price: float = 0.2
    """For "auto": what part of the force error may be added."""
    strain: float = 0.02
    """Ghost forces count, too, as they change by a strain of so much; 0 for none."""
    groups: int = 4
    """Into how many groups hot structures are divided; 1 for none."""
    hot: float = 0.1
    """Of the forces of such groups beside forces of whole structures."""


class Fit(_Table, frozen=True):
    """Weights of the soft set in the least squares (of mean squares over all rows of a kind)."""

    energy: float = 30.0
    """Of energies per atom (eV)."""
    force: float = 1.0
    """Of forces (eV/Å)."""
    virial: float = 1.0
    """Of virials per atom (eV)."""
    smooth: float = 1e-3
    """Of second differences of pair functions (eV): keeps the curve smooth where no pair of atoms
    was."""
    ridge: float | Literal["auto"] = "auto"
    """"auto" chooses it by the validation set."""
    validation: float = 0.15
    """Fraction of the soft structures that is kept out of the fit to choose by, and again the same
    to tell errors by."""


class Sweep(_Table, frozen=True):
    """What `--sweep` compares."""

    twojmax: tuple[int, ...] = (2, 4, 6, 8)
    cutoffs: tuple[float, ...] = (4.3, 4.7, 5.2)
    """Å."""


class Recipe(_Table, frozen=True):
    """One distill.toml."""

    name: str
    """Of the potential: NAME.snapcoeff, NAME.snapparam."""
    structure: str
    """File of a bulk crystal (anything ASE reads): a primitive or conventional cell. A supercell
    is refused, with the cell it repeats."""
    expensive: Expensive
    folder: str = "distilled"
    """Where everything is kept, relative to distill.toml."""
    compare: tuple[str, ...] = ()
    """Files of LAMMPS commands of other potentials that are judged beside, e.g. a stock SNAP."""
    potential: Potential = Potential()
    pair: Pair = Pair()
    soft: Soft = Soft()
    given: Given = Given()
    hold: Hold = Hold()
    hard: Hard = Hard()
    partition: Partition = Partition()
    fit: Fit = Fit()
    sweep: Sweep = Sweep()
