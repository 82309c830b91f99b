"""Lambda of frames that were stored without it: computed, or taken from the journal.

Where a region has no memory, lambda is a function of the frame and is computed as the server does.
Else the run's journal has the state that each evaluation left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from mixserver.config import load_case
from mixserver.core.errors import MixserverError
from mixserver.core.frame import Frame, Topology
from mixserver.region import AtomSeeds, CriterionSeeds, FixedRegion, RegionModel, ShellRegion
from mixserver.region.fingerprint import frame_fingerprint
from mixserver.region.region import Region
from mixserver.server.records.journal import EARLIER, JOURNAL
from mixserver.server.records.journal_reader import JournalRecords, read_journal
from mixserver.server.reference.structure import read_reference
from mixserver.server.regions import REGION_STATE, build_region_model, load_region_state

_DIGITS: Final = 5e-6
"""Relative rounding of a coordinate to the six digits of i-PI's trajectories."""
_CELL: Final = 5e-5
"""Å, of the cell likewise."""
NOT_RECORDED: Final = (
    "λ of this frame is not recorded; set record.regions_every in mix.toml to store frames with it"
)


class Lambdas:
    """Finds lambda of the frames of one run.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: RegionModel | None = None
        self._journal: JournalRecords | None = None
        self._journal_sizes: tuple[int, ...] = ()
        self.topology: Topology | None = None
        """Elements and periodic axes; None if the structure cannot be read."""
        self.why_not = ""
        """Why lambda is not known for any frame."""
        self.mixed = True
        """Whether the run has a region."""
        try:
            case = load_case(folder)
            self.topology, start = read_reference(case)
            if case.config.region is None:
                self.mixed = False
                self.why_not = "This run is not mixed: all atoms have the same model."
                return
            self._model = build_region_model(case.config, start)
            state = folder / REGION_STATE
            if isinstance(self._model, FixedRegion) and state.is_file():
                load_region_state(self._model, state)
        except MixserverError as error:
            self._model = None
            self.why_not = f"λ is not known: {error}"

    def find(self, frame: Frame) -> tuple[Region | None, str]:
        """The region of a frame, or None and why it is not known."""
        model = self._model
        if model is None:
            return None, self.why_not
        try:
            if not model.has_memory:
                return model.evaluation(frame).region(), ""
            region = self._remembered(frame, model)
        except MixserverError as error:
            return None, f"λ is not known: {error}"
        return region, "" if region is not None else NOT_RECORDED

    def _remembered(self, frame: Frame, model: RegionModel) -> Region | None:
        records = self._records()
        if records is None or not isinstance(model, ShellRegion):
            return None
        fingerprint = frame_fingerprint(frame)
        within = _DIGITS * fingerprint.size + _CELL
        state = records.state_after(frame.bead, fingerprint, within)
        if state is None:
            return None
        if state.active is not None:
            lambda_ = np.zeros(len(frame))
            lambda_[state.active] = state.active_lambda
            seeds = model.seeds
            chosen = state.selected if isinstance(seeds, CriterionSeeds) else seeds.atoms(frame)
            return Region(lambda_, np.empty(0, dtype=np.intp) if chosen is None else chosen)
        if state.selected is None:  # the criterion has not selected yet
            return None
        atoms = AtomSeeds(state.selected)
        return Region(model.shells.lambda_(frame, atoms), atoms.atoms(frame))

    def _records(self) -> JournalRecords | None:
        """The journal as it is now."""
        sizes = tuple(_size(self._folder / name) for name in (EARLIER, JOURNAL))
        if sizes != self._journal_sizes:
            self._journal_sizes = sizes
            self._journal = read_journal(self._folder)
        return self._journal


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
