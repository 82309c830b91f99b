"""The tables of cotrain.toml as typed values, each key documented where it is declared.

Lengths in Å, energies in eV, temperatures in K. `load` reads and checks the file.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mixserver.distill.config.schema import Hold, Soft


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings of all tables."""


class Expert(_Table, frozen=True):
    """One of the two networks: `[large]` for the region and `[small]` for everything else."""

    data: tuple[str, ...] = ()
    """Files of structures with energies and forces (extxyz), relative to the recipe."""
    model: str = ""
    """A model file to begin with; "" for random parameters. Reading such a file runs what is
    pickled in it: use files that you trust."""
    fixed: bool = False
    """Take `model` as it is. For [large]: a model that you have, or a foundation model."""
    weight: float = 1.0
    """Weight of its errors in the loss."""
    options: dict[str, Any] = {}
    """Options of mace_run_train, without dashes: the size of the network, loss, optimiser, batch,
    learning rate, stage two (`swa_lr`, `swa_energy_weight`, ...). What the tables of the recipe set
    for both experts is refused here."""


class Agreement(_Table, frozen=True):
    """The term w_e <(e_L - e_S)²> + w_f <|f_L - f_S|²> of the loss, on bulk environments."""

    energy: float = 100.0
    """w_e, the weight of site energies (eV²)."""
    forces: float = 10.0
    """w_f, the weight of forces ((eV/Å)²)."""
    start: int = 0
    """Epoch at which both weights begin to rise."""
    ramp: int = 10
    """Number of epochs over which they rise to their full size."""
    stage_two: float = 10.0
    """Factor of w_e in stage two."""
    batch: int = 2
    """Bulk structures a step."""
    mutual: bool = True
    """Whether the large expert is drawn to the small one as well; false leaves its accuracy to its
    own data. Without effect where it is fixed."""
    md: bool = True
    """Take bulk structures from MD of the large expert, as [soft] says. If it has no model yet, it
    is trained alone first."""
    data: tuple[str, ...] = ()
    """Files of further structures, relative to the recipe; labels in them are ignored."""
    mask: str = ""
    """Per-atom array in these files that is true where the surroundings of an atom are bulk; ""
    takes all atoms of cells that repeat in all directions."""


class Training(_Table, frozen=True):
    """What both trainings have in common."""

    epochs: int = 100
    """Number of passes through the data of the large expert (of the small one if that is fixed)."""
    stage_two: int = 0
    """First epoch of stage two, with larger weights of energies; 0 for none."""
    patience: int = 0
    """Epochs without a better validation loss after which stage one, and then the training, ends;
    0 for never."""
    validation: float = 0.1
    """Fraction of each set of structures that is held out; the best parameters on it are kept."""
    checkpoint: int = 1
    """Epochs between two checkpoints."""
    seed: int = 1
    """Of initial parameters, splits and the order of structures."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the training, and of the model files."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    threads: int = 1
    """CPU threads of the training."""


class Keys(_Table, frozen=True):
    """What the labels are called in the files of data."""

    energy: str = "REF_energy"
    """eV, of a structure."""
    forces: str = "REF_forces"
    """eV/Å, of atoms."""
    stress: str = "REF_stress"
    """eV/Å³, of a structure, with ASE's sign; structures without it are trained without."""


class Workers(_Table, frozen=True):
    """Workers that run the networks in MD and for the report; in double precision."""

    count: int = 2
    """Number of workers of the large expert."""
    threads: int = 1
    """Threads of each."""


class Recipe(_Table, frozen=True, kw_only=True):
    """One cotrain.toml."""

    name: str
    """Name of the models: NAME-large.model and NAME-small.model."""
    structure: str
    """File of the bulk crystal (any format that ASE reads): a primitive or conventional cell."""
    folder: str = "cotrained"
    """Folder of all results, relative to cotrain.toml."""
    engine: Literal["mace"] = "mace"
    """Package that trains the networks."""
    control: bool = True
    """Also train the small expert without agreement, for comparison."""
    large: Expert
    small: Expert
    agreement: Agreement = Agreement()
    training: Training = Training()
    e0s: dict[str, float] = {}
    """Energies of free atoms (eV) by element, for both experts. Where this is empty: isolated atoms
    (`config_type=IsolatedAtom`) in the large expert's data, or else a least squares fit."""
    keys: Keys = Keys()
    workers: Workers = Workers()
    soft: Soft = Soft()
    hold: Hold = Hold()
