"""What `mixserver cotrain` asks of the training program, and what that program tells.

The program is `python -m mixserver_worker.training JOB`, with JOB a file of one `TrainingJob` as
JSON. It prints one JSON object a line: `Began`, `Epoch`, at last `Finished` or `Failed`.
Energies in eV, lengths in Å.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common settings."""


class ExpertJob(_Message, frozen=True):
    """One of the two models to train."""

    data: tuple[str, ...] = ()
    """extxyz files with labels; absolute paths."""
    model: str = ""
    """A model file to start from; "" begins with random parameters."""
    fixed: bool = False
    """The file is used as it is, and not trained."""
    weight: float = 1.0
    """Of its errors in the loss."""
    options: dict[str, Any] = {}
    """Options of the network's own training program, without dashes: of mace_run_train."""


class Agreement(_Message, frozen=True):
    """The term that ties the two models together on bulk environments."""

    data: tuple[str, ...] = ()
    """Files of structures; labels in them are ignored."""
    mask: str = ""
    """Per-atom array of the files that is true for atoms whose surroundings are bulk; "" takes all
    atoms."""
    energy: float = 0.0
    """Weight of the mean square difference of site energies (eV²)."""
    forces: float = 0.0
    """Weight of the mean square difference of forces ((eV/Å)²)."""
    start: int = 0
    """Epoch at which the weights begin to rise."""
    ramp: int = 0
    """Number of epochs over which they rise to their full size."""
    stage_two: float = 1.0
    """Factor of the energy weight in stage two."""
    batch: int = 1
    """Structures a step."""
    mutual: bool = True
    """Whether the large expert is drawn to the small one as well."""


class Keys(_Message, frozen=True):
    """Names of the labels in the files."""

    energy: str = "REF_energy"
    forces: str = "REF_forces"
    stress: str = "REF_stress"


class TrainingJob(_Message, frozen=True, kw_only=True):
    """A whole training."""

    engine: Literal["mace"]
    folder: str
    """Absolute path of the folder for checkpoints and results."""
    large: ExpertJob
    small: ExpertJob | None = None
    """None trains the large expert alone."""
    agreement: Agreement = Agreement()
    e0s: dict[str, float] = {}
    """Energies of free atoms (eV) by element, of both experts; {} takes isolated atoms of the
    large expert's data, or else a least squares fit to it."""
    keys: Keys = Keys()
    epochs: int
    stage_two: int = 0
    """First epoch of stage two; 0 for none."""
    patience: int = 0
    """Epochs without a better validation loss after which the training stops; 0 for never."""
    validation: float = 0.1
    """Fraction of each set of structures that is held out."""
    checkpoint: int = 1
    """Epochs between two checkpoints."""
    seed: int = 1
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    threads: int = 1


class LabelErrors(_Message, frozen=True):
    """Root mean square errors of one expert over held-out structures."""

    energy: float
    """eV per atom."""
    forces: float
    """eV/Å, of components."""
    stress: float | None = None
    """eV/Å³; None where no structure has one."""


class Disagreement(_Message, frozen=True):
    """Root mean square differences of the two experts over held-out bulk environments."""

    energy: float
    """eV, of site energies."""
    forces: float
    """eV/Å, of components."""
    spread: float
    """eV, of site energies less the mean difference of each element."""


class Began(_Message, frozen=True, tag="began"):
    """The data are read and the models made."""

    epoch: int
    """First epoch to do: more than 0 after an interruption."""
    structures: dict[str, int]
    """Numbers of structures, by what they serve for."""
    parameters: dict[str, int]
    """Numbers of parameters that are trained, by expert."""
    e0s: dict[str, float]
    notes: tuple[str, ...] = ()
    """Remarks for the user."""


class Epoch(_Message, frozen=True, kw_only=True, tag="epoch"):
    """An epoch has ended."""

    epoch: int
    """From 0."""
    stage: int
    """1 or 2."""
    seconds: float
    loss: float
    """The validation loss, with the full weights."""
    large: LabelErrors | None = None
    """None for one that is not trained."""
    small: LabelErrors | None = None
    agreement: Disagreement | None = None


class Finished(_Message, frozen=True, tag="finished"):
    """The training has ended."""

    best: int
    """The epoch whose parameters were kept."""
    why: str
    """"all epochs", or why it stopped earlier."""
    models: dict[str, str]
    """Files of the models, by expert."""
    history: tuple[Epoch, ...] = ()


class Failed(_Message, frozen=True, tag="failed"):
    """The training cannot be done; the program ends with status 1."""

    message: str


TrainingMessage: TypeAlias = Began | Epoch | Finished | Failed
