"""A region model whose state survives the server, and follows i-PI where it goes back.

i-PI sends no step number, so an evaluation is identified by its positions. After a restart, and
whenever i-PI has connected again, a bead takes the state that it had when the frame that i-PI sends
was evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from mixserver.core.errors import UpstreamError
from mixserver.core.frame import Frame
from mixserver.region.fingerprint import FrameFingerprint, frame_fingerprint
from mixserver.region.protocol import Evaluation
from mixserver.region.shell_region import ShellRegion
from mixserver.server.records.journal import JOURNAL, Journal
from mixserver.server.records.journal_reader import Found, JournalRecords, Nearest, read_journal

log = structlog.get_logger(__name__)


class JournalledRegion:
    """A `ShellRegion` with a journal; a `RegionModel`.

    Args:
        region: it has memory.
        journal: of this run.
        earlier: the folders of the run that continues and of those that it continues itself, the
            newest first, as far as they kept journals.
    """

    has_memory = True

    def __init__(self, region: ShellRegion, journal: Journal, earlier: Sequence[Path] = ()) -> None:
        self._region = region
        self._journal = journal
        self._earlier = earlier
        self._records: dict[Path, JournalRecords] = {}
        """Of earlier runs, while beads may still come for them."""
        self._connections = 0
        self._restarted = 0
        """The last connection to an i-PI that had been started again."""
        self._looked_up: dict[int, int] = {}
        """Per bead, how many connections there had been when it was last looked up."""

    def connected(self, restarted: bool = True) -> None:
        """Note that i-PI has connected: it may have gone back, so look each bead's frame up.

        One that was started again must begin with a frame of the journal, or the next one.
        """
        self._connections += 1
        if restarted:
            self._restarted = self._connections

    def evaluation(self, frame: Frame) -> Evaluation:
        """Begin an evaluation, from the state of that time if the frame was evaluated before.

        Raises:
            UpstreamError: the run continues an earlier one, or i-PI was started again, from a frame
                that was never evaluated.
            ConfigError: the earlier run's journal cannot be read.
        """
        bead, fingerprint = frame.bead, frame_fingerprint(frame)
        before = self._looked_up.get(bead)
        if before != self._connections:
            self._looked_up[bead] = self._connections
            if before is not None:
                self._go_back(bead, fingerprint, restarted=self._restarted > before)
            elif self._earlier:
                self._continue(bead, fingerprint)
        else:
            self._records.clear()
        evaluation = self._region.evaluation(frame, on_commit=self._journal.write_state)
        self._journal.write_state(bead, self._region.bead(bead))
        self._journal.write_frame(bead, fingerprint)
        return evaluation

    def next_criterion(self, bead: int) -> str:
        """See `RegionModel.next_criterion`."""
        return self._region.next_criterion(bead)

    def state(self) -> dict[str, Any]:
        """See `RegionModel.state`."""
        return self._region.state()

    def restore(self, state: dict[str, Any]) -> None:
        """See `RegionModel.restore`."""
        self._region.restore(state)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _continue(self, bead: int, fingerprint: FrameFingerprint) -> None:
        """Take the state that an earlier run had at a bead's first frame."""
        run, found = self._find(bead, fingerprint, self._earlier)
        match found:
            case Found(state, later):
                self._region.restore_bead(bead, state)
                log.info(
                    "regions continue from their saved state",
                    bead=bead,
                    evaluation=state.evaluations,
                    evaluations_after_it=later,
                    run=str(run),
                )
            case Nearest(last=state, goes_on=True) if state is not None:
                self._region.restore_bead(bead, state)
                log.warning(
                    "i-PI continues beyond the last journalled evaluation; so do regions",
                    bead=bead,
                    evaluation=state.evaluations,
                    run=str(run),
                )
            case Nearest(evaluations, distance):
                damage = self._records[run].damage
                raise UpstreamError(
                    f"{_unknown(bead, evaluations, distance, run, damage)}. Start i-PI from the "
                    "RESTART or a checkpoint of that run, or start a fresh run. To have regions "
                    f"begin with the state in region.json, or without one, delete {run / JOURNAL}*"
                )

    def _find(
        self, bead: int, fingerprint: FrameFingerprint, runs: Sequence[Path]
    ) -> tuple[Path, Found | Nearest]:
        """The frame in the newest run that has it; or else the newest run that has the bead."""
        missed: tuple[Path, Found | Nearest] | None = None
        for run in runs:
            records = self._records.get(run)
            if records is None:
                records = self._records[run] = read_journal(run) or JournalRecords()
            found = records.find(bead, fingerprint)
            if isinstance(found, Found):
                return run, found
            if missed is None or (isinstance(missed[1], Nearest) and not missed[1].evaluations):
                missed = run, found
        if missed is None:
            raise RuntimeError("there is no earlier run")
        return missed

    def _go_back(self, bead: int, fingerprint: FrameFingerprint, *, restarted: bool) -> None:
        """Take the state of an earlier frame, if i-PI has gone back to one."""
        self._records.pop(self._journal.folder, None)
        run, found = self._find(bead, fingerprint, (self._journal.folder, *self._earlier))
        match found:
            case Found(state, later):
                self._region.restore_bead(bead, state)
                if later:
                    log.warning(
                        "i-PI has gone back to an earlier frame; regions take their earlier state",
                        bead=bead,
                        evaluation=state.evaluations,
                        evaluations_back=later,
                    )
            case Nearest(evaluations, distance, goes_on=False) if restarted and evaluations:
                damage = self._records[run].damage
                raise UpstreamError(
                    f"{_unknown(bead, evaluations, distance, run, damage)}. i-PI was started "
                    "again: start it from the RESTART or a checkpoint of this run, or start "
                    "mixserver again for another trajectory"
                )
            case Nearest(evaluations, distance, goes_on=False) if evaluations:
                log.warning(
                    "i-PI continues from a frame that was not evaluated before and is not near the "
                    "last one; regions keep their state. Start mixserver again for another "
                    "trajectory",
                    bead=bead,
                    nearest_A=f"{distance:.3g}",
                    evaluations=evaluations,
                )


def _unknown(bead: int, evaluations: int, distance: float, run: Path, damage: str) -> str:
    known = f"; {damage}" if damage else ""
    if not evaluations:
        return f"i-PI sends bead {bead}, but the journal of {run} has no evaluation of it{known}"
    return (
        f"i-PI begins with a frame that is not among the {evaluations} evaluations in the journal "
        f"of {run} (bead {bead}; the nearest is {distance:.3g} Å away, all coordinates "
        f"together){known}"
    )
