"""What the rest of mixserver asks of a region model, and one evaluation of a frame by it.

A region model changes in one place only: `Evaluation.commit`. Whatever fails or is cancelled before
leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.region.region import Region


class Evaluation:
    """One evaluation of a frame; a context that must be committed before it is left.

    Without `with` it is a preview of the region.
    """

    criterion = ""
    """The compute whose values are wanted; "" for none."""
    selects = False
    """True if the criterion selects the seeds: record its values before `region`. Otherwise they
    only enter a time average, and may be recorded any time before `commit`."""
    committed = False
    """Whether `commit` was called."""

    @property
    def work(self) -> float:
        """The bead's lambda work in eV, with this evaluation's: energy - work is conserved."""
        return 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self.committed:
            raise RuntimeError("an evaluation of a region was left without commit")

    def record_criterion(self, values: Scalars | None) -> None:
        """Take the values (N,) of the criterion, once.

        Raises:
            RuntimeError: there are none, or none are wanted.
        """
        raise RuntimeError("this region has no criterion")

    def region(self) -> Region:
        """Divide the frame, once.

        Raises:
            ConfigError: the region does not fit the frame's atoms.
            RuntimeError: the criterion's values are still missing.
        """
        raise NotImplementedError

    def commit(self, update_energy: float = 0.0) -> None:
        """Make the evaluation part of the bead's history, once, when its result is known.

        Args:
            update_energy: eV by which the energy changed because lambda was updated in it.

        Raises:
            RuntimeError: it is not divided yet, or was committed before.
            NoAnswer: another evaluation of the bead was begun since.
        """
        if self.committed:
            raise RuntimeError("an evaluation of a region was committed twice")
        self.committed = True


class RegionModel(Protocol):
    """Decides which atoms are expensive, and how much."""

    @property
    def has_memory(self) -> bool:
        """Whether regions depend on earlier evaluations of their bead; else on the frame alone."""

    def evaluation(self, frame: Frame) -> Evaluation:
        """Begin an evaluation of the frame's bead; see `Evaluation`.

        An evaluation that is begun again, or that follows one that was not committed, counts once.
        """

    def next_criterion(self, bead: int) -> str:
        """The compute that the bead's next evaluation wants; "" for none."""

    def state(self) -> dict[str, Any]:
        """What must survive a restart, as plain numbers and lists."""

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by one that `state` returned.

        Raises:
            ConfigError: it is something else, or of other atoms.
        """


class StatelessRegion:
    """The part of `RegionModel` that all models without memory share; they only `divide`."""

    has_memory = False

    def divide(self, frame: Frame) -> Region:
        """Divide a frame; see `Evaluation.region`."""
        raise NotImplementedError

    def evaluation(self, frame: Frame) -> StatelessEvaluation:
        """Begin an evaluation, of which nothing will be remembered."""
        return StatelessEvaluation(frame, self.divide)

    def next_criterion(self, bead: int) -> str:
        """Nothing but positions matters."""
        return ""

    def state(self) -> dict[str, Any]:
        """Empty: nothing need survive a restart."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Accept an empty state only.

        Raises:
            ConfigError: it was saved with other settings.
        """
        if state:
            raise ConfigError("it holds the state of another kind of region; this one has none")


class StatelessEvaluation(Evaluation):
    """An evaluation by a model that remembers nothing."""

    def __init__(self, frame: Frame, divide: Callable[[Frame], Region]) -> None:
        self._frame = frame
        self._divide = divide

    def region(self) -> Region:
        """Divide the frame; see `Evaluation.region`."""
        return self._divide(self._frame)
