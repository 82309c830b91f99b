"""A selector whose memory outlives the server, and follows i-PI where it goes back.

i-PI tells no step, so an evaluation is known again by its positions. After a restart, and whenever
i-PI has connected again, a bead takes what was remembered when the frame it asks for was evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from mixserver.arrays import Scalars
from mixserver.errors import UpstreamError
from mixserver.frame import Frame
from mixserver.record.journal import JOURNAL, Found, Journal, Nearest, Past, read_past
from mixserver.region.marks import Mark, mark
from mixserver.region.region import Region
from mixserver.region.selecting import Due
from mixserver.region.selector import Selector

log = structlog.get_logger(__name__)


class Remembering:
    """A `Selector` with a journal; see `Selecting`.

    Args:
        selector: remembers.
        journal: of this run.
        earlier: the folders of the run that goes on and of those that it goes on from itself, the
            newest first, as far as they kept journals.
    """

    def __init__(self, selector: Selector, journal: Journal, earlier: Sequence[Path] = ()) -> None:
        self._selector = selector
        self._journal = journal
        self._earlier = earlier
        self._pasts: dict[Path, Past] = {}
        """Of earlier runs, while beads may still come for them."""
        self._connections = 0
        self._looked: dict[int, int] = {}
        """Per bead, how many connections there had been when it was looked for last."""

    @property
    def remembers(self) -> bool:
        """True."""
        return self._selector.remembers

    def connected(self) -> None:
        """Look for each bead's next frame among those it was evaluated at before."""
        self._connections += 1

    def begin(self, frame: Frame) -> None:
        """Begin an evaluation, with what was remembered then if the frame is an earlier one.

        Raises:
            UpstreamError: the run continues an earlier one, but from a frame that this never had.
            ConfigError: the earlier run's journal cannot be read.
        """
        bead, where = frame.bead, mark(frame)
        if self._looked.get(bead) != self._connections:
            first = bead not in self._looked
            self._looked[bead] = self._connections
            if not first:
                self._went_back(bead, where)
            elif self._earlier:
                self._go_on(bead, where)
        else:
            self._pasts.clear()
        self._selector.begin(frame)
        self._journal.remembered(bead, self._selector.memory(bead))
        self._journal.asked(bead, where)

    def due(self, bead: int) -> Due:
        """See `Selector.due`."""
        return self._selector.due(bead)

    def observe(self, bead: int, values: Scalars) -> None:
        """See `Selector.observe`."""
        self._selector.observe(bead, values)

    def select(self, frame: Frame) -> Region:
        """See `Selector.select`."""
        return self._selector.select(frame)

    def done(self, frame: Frame, work: float = 0.0) -> None:
        """See `Selector.done`; what is remembered is written before the answer is sent."""
        self._selector.done(frame, work)
        self._journal.remembered(frame.bead, self._selector.memory(frame.bead))

    def work(self, bead: int) -> float:
        """See `Selector.work`."""
        return self._selector.work(bead)

    def state(self) -> dict[str, Any]:
        """See `Selector.state`."""
        return self._selector.state()

    def restore(self, state: dict[str, Any]) -> None:
        """See `Selector.restore`."""
        self._selector.restore(state)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _go_on(self, bead: int, where: Mark) -> None:
        """Take over what an earlier run remembered of a bead's first frame."""
        run, found = self._look(bead, where, self._earlier)
        match found:
            case Found(memory, later):
                self._selector.take(bead, memory)
                log.info(
                    "regions continue with what they remembered",
                    bead=bead,
                    evaluation=memory.evaluations,
                    evaluations_after_it=later,
                    run=str(run),
                )
            case Nearest(last=memory, goes_on=True) if memory is not None:
                self._selector.take(bead, memory)
                log.warning(
                    "i-PI continues beyond the last remembered evaluation; regions do so too",
                    bead=bead,
                    evaluation=memory.evaluations,
                    run=str(run),
                )
            case Nearest(asked, distance):
                damage = self._pasts[run].damage
                raise UpstreamError(_unknown(bead, asked, distance, run, damage))

    def _look(self, bead: int, where: Mark, runs: Sequence[Path]) -> tuple[Path, Found | Nearest]:
        """The frame in the newest run that has it; or else the newest run that has the bead."""
        missed: tuple[Path, Found | Nearest] | None = None
        for run in runs:
            past = self._pasts.get(run)
            if past is None:
                past = self._pasts[run] = read_past(run) or Past()
            found = past.find(bead, where)
            if isinstance(found, Found):
                return run, found
            if missed is None or (isinstance(missed[1], Nearest) and not missed[1].asked):
                missed = run, found
        if missed is None:
            raise RuntimeError("there is no earlier run to look at")
        return missed

    def _went_back(self, bead: int, where: Mark) -> None:
        """Take what was remembered at an earlier frame, if i-PI has gone back to one."""
        self._pasts.pop(self._journal.folder, None)
        _, found = self._look(bead, where, (self._journal.folder, *self._earlier))
        match found:
            case Found(memory, later):
                self._selector.take(bead, memory)
                if later:
                    log.warning(
                        "i-PI has gone back to an earlier frame; regions take what they "
                        "remembered then",
                        bead=bead,
                        evaluation=memory.evaluations,
                        evaluations_back=later,
                    )
            case Nearest(asked, distance, goes_on=False) if asked:
                log.warning(
                    "i-PI continues from a frame that is none of the earlier ones, and not near "
                    "the last; regions keep what they remember. Start mixserver again for "
                    "another trajectory",
                    bead=bead,
                    nearest_A=f"{distance:.3g}",
                    evaluations=asked,
                )


def _unknown(bead: int, asked: int, distance: float, earlier: Path, damage: str) -> str:
    if not asked:
        return (
            f"i-PI asks for bead {bead}, but the regions of {earlier} remember nothing of it"
            f"{f' ({damage})' if damage else ''}; continue with the beads of that run, or start a "
            "fresh run"
        )
    return (
        f"i-PI begins with a frame that is none of the {asked} evaluations whose region memory "
        f"{earlier} still has (bead {bead}; the nearest is {distance:.3g} Å away, all coordinates "
        f"together){f'; {damage}' if damage else ''}. Start i-PI from the RESTART or a checkpoint "
        f"of that run, or start a fresh run. To have regions begin with what region.json says, or "
        f"with nothing, delete {earlier / JOURNAL}*"
    )
