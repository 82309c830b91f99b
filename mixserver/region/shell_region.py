"""A region of shells around seeds, with memory: hysteresis, and seeds that a criterion selects.

Knows no workers: an evaluation names the criterion it wants, and is given the values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from mixserver.core.arrays import Indices, Scalars
from mixserver.core.errors import ConfigError, NoAnswer
from mixserver.core.frame import Frame
from mixserver.region.hysteresis import RegionState, arrive, follow
from mixserver.region.protocol import Evaluation, StatelessEvaluation
from mixserver.region.region import Region
from mixserver.region.seeds import AtomSeeds, CriterionSeeds, Seeds
from mixserver.region.shells import Shells


class ShellRegion:
    """Core and blend around seeds; see `Shells`.

    A criterion without `initial` seeds selects at a bead's first evaluation. If it finds none, the
    region is empty and everything is cheap until it finds some.

    Where lambda is *held* (piecewise constant), as energy mixing needs it, atoms that move keep
    theirs: its target is computed only when seeds are selected, and `Region.before` has lambda
    before an update.

    Args:
        seeds: where the region starts.
        core_radius: Å.
        blend_width: Å; 0 for none.
        profile: "linear", "cubic" or "quintic".
        measure_from: "seed" or "core"; see `Shells`.
        hysteresis: evaluations in which lambda rises and falls; None for no hysteresis.
        held: lambda belongs to the atoms until the criterion selects again.
        atoms: how many there are, where that is known: `restore` then accepts no state of others.

    Raises:
        ConfigError: a width or a time is negative, there is no such profile, or lambda is to be
            held though no criterion ever selects.
    """

    def __init__(
        self,
        seeds: Seeds | CriterionSeeds,
        *,
        core_radius: float,
        blend_width: float,
        profile: str = "quintic",
        measure_from: Literal["seed", "core"] = "seed",
        hysteresis: tuple[float, float] | None = None,
        held: bool = False,
        atoms: int | None = None,
    ) -> None:
        self.shells = Shells(core_radius, blend_width, profile=profile, measure_from=measure_from)
        if hysteresis is not None and not min(hysteresis) >= 0.0:
            raise ConfigError(f"region.hysteresis needs times of 0 or more, got {hysteresis}")
        if held and not isinstance(seeds, CriterionSeeds):
            raise ConfigError(
                "lambda can be held between selections only where a criterion selects the seeds "
                '(region.seeds.kind = "criterion"); fix it or let it follow the seeds'
            )
        self.seeds = seeds
        self.held = held
        self.hysteresis = hysteresis
        self._count = atoms
        self._states: dict[int, RegionState] = {}
        self._begun: dict[int, ShellEvaluation] = {}
        """The newest evaluation of each bead."""
        self._last: dict[int, tuple[Frame, RegionState]] = {}
        """The frame of each bead's last committed evaluation, and the state when it was begun."""

    @property
    def has_memory(self) -> bool:
        """Whether there is hysteresis, or a criterion that selects."""
        return self.hysteresis is not None or isinstance(self.seeds, CriterionSeeds)

    def evaluation(
        self,
        frame: Frame,
        *,
        on_commit: Callable[[int, RegionState], None] | None = None,
    ) -> Evaluation:
        """Begin an evaluation of the frame's bead.

        If the bead's last evaluation was of the very same positions and cell, its region is found
        again from the state before that: i-PI sends a request again when it lost a connection.

        Args:
            frame: what is evaluated.
            on_commit: called with the bead and its new state.
        """
        if not self.has_memory:
            return StatelessEvaluation(frame, self._divide)
        bead = frame.bead
        last = self._last.get(bead)
        if last is not None and _same(last[0], frame):
            self._states[bead] = last[1]
        evaluation = self._begun[bead] = ShellEvaluation(self, frame, self.bead(bead), on_commit)
        return evaluation

    def next_criterion(self, bead: int) -> str:
        """The compute that the bead's next evaluation wants; "" for none."""
        seeds = self.seeds
        if isinstance(seeds, CriterionSeeds) and seeds.samples_at(self.bead(bead).evaluations):
            return seeds.compute
        return ""

    def bead(self, bead: int) -> RegionState:
        """The committed state of a bead."""
        return self._states.get(bead) or RegionState()

    def restore_bead(self, bead: int, state: RegionState) -> None:
        """Replace the state of a bead, as if its last evaluation had left it.

        Raises:
            ConfigError: it is of other atoms.
        """
        state.check(self._count)
        self._states[bead] = state
        self._last.pop(bead, None)
        self._begun.pop(bead, None)

    def state(self) -> dict[str, Any]:
        """The state of each bead, as plain numbers and lists."""
        return {str(bead): state.to_dict() for bead, state in self._states.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by one that `state` returned.

        Raises:
            ConfigError: it is something else, or of other atoms.
        """
        try:
            states = {int(bead): RegionState.from_dict(plain) for bead, plain in state.items()}
        except (AttributeError, ValueError) as error:
            raise ConfigError(f"this is not the state of a region: {error!r}") from error
        for one in states.values():
            one.check(self._count)
        self._states, self._begun, self._last = states, {}, {}

    def commit(self, evaluation: ShellEvaluation, frame: Frame, state: RegionState) -> None:
        """Take the state that an evaluation leaves; called by `ShellEvaluation.commit` only.

        Raises:
            NoAnswer: another evaluation of the bead was begun since.
        """
        if self._begun.get(frame.bead) is not evaluation:
            raise NoAnswer(
                f"another evaluation of bead {frame.bead} was begun before this one ended, and a "
                "region with memory takes them one by one. If it occurs again: does i-PI send "
                "several beads without their numbers (upstream.beads = 'announced')?"
            )
        self._last[frame.bead] = frame, self.bead(frame.bead)
        self._states[frame.bead] = state

    def _divide(self, frame: Frame) -> Region:
        """The region where nothing is remembered."""
        if isinstance(self.seeds, CriterionSeeds):
            raise TypeError("seeds that a criterion selects need its values")
        return Region(self.shells.lambda_(frame, self.seeds), self.seeds.atoms(frame))


class ShellEvaluation(Evaluation):
    """An evaluation by a `ShellRegion` with memory, on a copy of the bead's state."""

    def __init__(
        self,
        model: ShellRegion,
        frame: Frame,
        state: RegionState,
        on_commit: Callable[[int, RegionState], None] | None,
    ) -> None:
        self._model = model
        self._frame = frame
        self._state = dataclasses.replace(state)
        self._on_commit = on_commit
        seeds, number = model.seeds, state.evaluations
        if isinstance(seeds, CriterionSeeds) and seeds.samples_at(number):
            self.criterion, self.selects = seeds.compute, seeds.selects_at(number)
        self._recorded = False
        self._divided = False

    @property
    def work(self) -> float:
        """The bead's lambda work, in eV."""
        return self._state.work

    def record_criterion(self, values: Scalars | None) -> None:
        """Add the values (N,) of the criterion to its average; see `Evaluation`."""
        if values is None or not self.criterion or self._recorded:
            raise RuntimeError(
                f"criterion {self.criterion!r} needs its values once in an evaluation"
            )
        state = self._state
        state.summed = values.copy() if state.summed is None else state.summed + values
        state.samples += 1
        self._recorded = True

    def region(self) -> Region:
        """Divide the frame, once; see `Evaluation`."""
        if self._divided:
            raise RuntimeError("a frame is divided once in an evaluation")
        self._divided = True
        model, state, frame = self._model, self._state, self._frame
        seeds = self._seeds()
        if model.held and state.target_atoms is not None and not self.selects:
            lambda_ = _dense(state.target_atoms, state.target_lambda, len(frame))
        else:
            lambda_ = model.shells.lambda_(frame, seeds)
        before: Scalars | None = None
        if model.held:
            state.target_atoms = np.flatnonzero(lambda_)
            state.target_lambda = lambda_[state.target_atoms]
            before = self._before(len(frame))
        if model.held or model.hysteresis is not None:
            self._follow(lambda_)
        state.evaluations += 1
        if before is not None and np.array_equal(before, lambda_):
            before = None
        return Region(lambda_, seeds.atoms(frame), before=before)

    def commit(self, update_energy: float = 0.0) -> None:
        """Make this the bead's last evaluation; see `Evaluation`."""
        if not self._divided or (self.criterion and not self._recorded):
            raise RuntimeError("an evaluation is committed before the frame was divided")
        super().commit()
        self._state.work += update_energy
        self._model.commit(self, self._frame, self._state)
        if self._on_commit is not None:
            self._on_commit(self._frame.bead, self._state)

    def _seeds(self) -> Seeds:
        """The seeds of this evaluation; a criterion selects here if it is time."""
        seeds, state = self._model.seeds, self._state
        if not isinstance(seeds, CriterionSeeds):
            return seeds
        if self.selects:
            if not self._recorded or state.summed is None:
                raise RuntimeError(
                    f"seeds are selected by {seeds.compute!r} now, but its values are missing: "
                    "record_criterion() comes before region()"
                )
            state.selected = seeds.select(state.summed / state.samples)
            state.summed, state.samples = None, 0
        if state.selected is not None:
            return AtomSeeds(state.selected)
        return AtomSeeds(seeds.initial or ())

    def _follow(self, lambda_: Scalars) -> None:
        """Let lambda follow its target, in place; the first evaluation takes the target itself."""
        model, state = self._model, self._state
        before = self._before(len(lambda_))
        if before is not None and model.hysteresis is not None:
            moving = np.flatnonzero(before != lambda_)
            target = lambda_[moving]
            values = follow(before[moving], target, *model.hysteresis)
            # a held lambda comes to rest, so that updates end: each costs energy, however little
            lambda_[moving] = arrive(values, target) if model.held else values
        state.active = np.flatnonzero(lambda_)
        state.active_lambda = lambda_[state.active]

    def _before(self, count: int) -> Scalars | None:
        """(N,) lambda of the bead's last evaluation; None before the first."""
        state = self._state
        return None if state.active is None else _dense(state.active, state.active_lambda, count)


def _dense(atoms: Indices, values: Scalars, count: int) -> Scalars:
    """(N,) the values of some atoms, and 0 for all others."""
    dense = np.zeros(count)
    dense[atoms] = values
    return dense


def _same(one: Frame, other: Frame) -> bool:
    """Whether two frames are equal to the last bit; nearly free where they are not."""
    if len(one) != len(other) or not np.array_equal(one.cell, other.cell):
        return False
    if not np.array_equal(one.positions[:8], other.positions[:8]):
        return False
    return np.array_equal(one.positions, other.positions)
