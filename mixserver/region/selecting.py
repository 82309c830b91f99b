"""What the rest of mixserver asks of an object that divides frames, whatever it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from mixserver.arrays import Scalars
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.region.region import Region


@dataclass(frozen=True, slots=True)
class Due:
    """What the selector wants to know at the coming evaluation of a bead."""

    criterion: str = ""
    """The compute whose values are wanted; "" for none."""
    choose: bool = False
    """True if seeds are chosen from them: observe *before* `select`. Otherwise they only enter a
    time average and may come whenever the worker has them."""


class Selecting(Protocol):
    """Decides which atoms are expensive, and how much.

    An evaluation is `begin`, `due`, `observe` where something is due, `select`, `done`.
    """

    @property
    def remembers(self) -> bool:
        """Whether regions depend on earlier evaluations of their bead; else on the frame alone."""

    def begin(self, frame: Frame) -> None:
        """Begin an evaluation of the frame's bead; it counts once, however often it is asked."""

    def due(self, bead: int) -> Due:
        """Say what must be known at the bead's coming evaluation. Asking changes nothing."""

    def observe(self, bead: int, values: Scalars) -> None:
        """Take the values (N,) of a criterion that was due, once per evaluation."""

    def select(self, frame: Frame) -> Region:
        """Divide a frame.

        Raises:
            ConfigError: the region does not fit the frame's atoms.
        """

    def done(self, frame: Frame, work: float = 0.0) -> None:
        """Say that the evaluation begun with this frame was answered.

        Args:
            frame: as given to `begin`.
            work: eV by which the energy jumped because lambda was updated in it.
        """

    def work(self, bead: int) -> float:
        """EV, the sum of all jumps of a bead's energy: what is conserved is the energy less it."""

    def connected(self) -> None:
        """Say that upstream has connected, or connected again: it may have gone back."""

    def close(self) -> None:
        """Give back what is held open."""

    def state(self) -> dict[str, Any]:
        """What must survive a restart, as plain numbers and lists."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            ConfigError: it is something else, or of other atoms.
        """


class Memoryless:
    """The part of `Selecting` that is the same for all who remember nothing of evaluations."""

    @property
    def remembers(self) -> bool:
        """False."""
        return False

    def begin(self, frame: Frame) -> None:
        """Nothing counts evaluations here."""

    def due(self, bead: int) -> Due:
        """Nothing need be known but the positions."""
        return Due()

    def observe(self, bead: int, values: Scalars) -> None:
        """Values are never due, and change nothing."""

    def done(self, frame: Frame, work: float = 0.0) -> None:
        """Lambda never jumps, so there is no work to remember."""

    def work(self, bead: int) -> float:
        """EV, always 0."""
        return 0.0

    def connected(self) -> None:
        """The same frame has the same region, whenever it is asked for."""

    def close(self) -> None:
        """Nothing is held open."""

    def state(self) -> dict[str, Any]:
        """Empty: nothing need survive a restart."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back nothing.

        Raises:
            ConfigError: there is something, so it was saved with other settings.
        """
        if state:
            raise ConfigError("it holds the memory of another kind of region; this one has none")
