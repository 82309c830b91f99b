"""From positions to lambda: seeds, then core, then blend, then memory.

Knows no workers: it says when it needs a criterion's values (`due`) and is handed them (`observe`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixserver.arrays import Indices, Mask, Scalars
from mixserver.errors import ConfigError
from mixserver.frame import Frame
from mixserver.geometry import Near, near_atoms
from mixserver.region.memory import Memory, arrive, follow
from mixserver.region.profiles import named
from mixserver.region.region import Region
from mixserver.region.seeds import AtomSeeds, CriterionSeeds, Seeds
from mixserver.region.selecting import Due


class Selector:
    r"""Decides which atoms are expensive, and how much.

    An atom is core (lambda = 1) if it is a seed or nearer than `core_radius` to one, or to the
    surface of a body, or inside it. Across the blend lambda = b(t), where b is the profile and

    * measured from the seed: :math:`t = (r - r_\mathrm{core}) / w` with r to the nearest seed,
    * measured from the core: :math:`t = r' / w` with r' to the nearest core atom, as in ML-MIX.

    A criterion without `initial` seeds chooses at a bead's first evaluation. If it finds none, the
    region is empty and everything is cheap until it finds some.

    Where lambda is *held*, as energy mixing needs it, atoms that move keep theirs: what it goes
    towards is found only when seeds are chosen; `Region.before` has lambda before a change.

    Args:
        seeds: where the region starts.
        core_radius: Å.
        blend_width: Å; 0 for none.
        profile: "linear", "cubic" or "quintic".
        measure_from: see above.
        hysteresis: evaluations in which lambda rises and falls; None for no memory.
        held: lambda belongs to the atoms until the criterion chooses again.
        atoms: how many there are, where that is known: `restore` then takes no memory of others.

    Raises:
        ConfigError: a width or a time is negative, there is no such profile, or lambda shall be
            held though no criterion ever chooses.
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
        for name, width in (("core_radius", core_radius), ("blend_width", blend_width)):
            if not (math.isfinite(width) and width >= 0.0):
                raise ConfigError(f"region.{name} must be 0 Å or more, got {width}")
        if measure_from not in ("seed", "core"):
            raise ConfigError(f'region.measure_from is "seed" or "core", not {measure_from!r}')
        if hysteresis is not None and not min(hysteresis) >= 0.0:
            raise ConfigError(f"region.hysteresis needs times of 0 or more, got {hysteresis}")
        if held and not isinstance(seeds, CriterionSeeds):
            raise ConfigError(
                "lambda can be held between choices only where a criterion chooses the seeds "
                '(region.seeds.kind = "criterion"); freeze it or let it follow the seeds'
            )
        self._seeds = seeds
        self._held = held
        self._core_radius = core_radius
        self._blend_width = blend_width
        self._profile = named(profile)
        self._from_core = measure_from == "core"
        self._hysteresis = hysteresis
        self._count = atoms
        self._memories: dict[int, Memory] = {}
        self._asked: dict[int, _Asked] = {}

    @property
    def remembers(self) -> bool:
        """Whether there is hysteresis, or a criterion that chooses."""
        return self._hysteresis is not None or isinstance(self._seeds, CriterionSeeds)

    def begin(self, frame: Frame) -> None:
        """Begin an evaluation of the frame's bead; it counts once, however often it is asked for.

        If the bead's last evaluation was not `done`, or was of the very same positions and cell,
        its region is chosen again from what was remembered before: i-PI asks again when it lost a
        connection.
        """
        if not self.remembers:
            return
        last = self._asked.get(frame.bead)
        if last is not None and (not last.done or _same(last.frame, frame)):
            self._memories[frame.bead] = last.before
        before = dataclasses.replace(self._memory(frame.bead))
        self._asked[frame.bead] = _Asked(frame, before)

    def done(self, frame: Frame, work: float = 0.0) -> None:
        """Say that the evaluation begun with this frame was answered.

        Args:
            frame: as given to `begin`.
            work: eV by which the energy jumped because lambda was updated in it.
        """
        last = self._asked.get(frame.bead)
        if last is not None and last.frame is frame and not last.done:
            last.done = True
            self._memory(frame.bead).work += work

    def work(self, bead: int) -> float:
        """EV by which updates of lambda have changed a bead's energy, in all."""
        memory = self._memories.get(bead)
        return 0.0 if memory is None else memory.work

    def due(self, bead: int) -> Due:
        """Say what must be known at the bead's coming evaluation. Asking changes nothing."""
        seeds = self._seeds
        if not isinstance(seeds, CriterionSeeds):
            return Due()
        memory = self._memories.get(bead)
        coming = 0 if memory is None else memory.evaluations
        if not seeds.samples_at(coming):
            return Due()
        return Due(seeds.compute, choose=seeds.chooses(coming))

    def observe(self, bead: int, values: Scalars) -> None:
        """Take the values of a criterion that was due, once per evaluation.

        Args:
            bead: replica index.
            values: (N,) one per atom.
        """
        memory = self._memory(bead)
        memory.summed = values.copy() if memory.summed is None else memory.summed + values
        memory.samples += 1

    def select(self, frame: Frame) -> Region:
        """Divide a frame; counts as one evaluation of its bead.

        Raises:
            RuntimeError: seeds are to be chosen now, but nothing was observed.
            ConfigError: a seed is not among the atoms.
        """
        memory = self._memory(frame.bead)
        choosing = self._chooses(memory)
        seeds = self._current(memory)
        expensive = np.zeros(len(frame))
        if self._held and memory.target is not None and not choosing:
            expensive[memory.target] = memory.targeted
        else:
            near, share = self._target(frame, seeds)
            expensive[near.atoms] = share
        before: Scalars | None = None
        if self._held:
            memory.target = np.flatnonzero(expensive)
            memory.targeted = expensive[memory.target]
            before = _dense(memory, len(frame))
        if self._held or self._hysteresis is not None:
            self._remember(memory, expensive)
        memory.evaluations += 1
        if before is not None and np.array_equal(before, expensive):
            before = None
        return Region(expensive, seeds.atoms(frame), before=before)

    def connected(self) -> None:
        """Nothing: `Remembering` finds out whether upstream went back."""

    def close(self) -> None:
        """Nothing is held open."""

    def memory(self, bead: int) -> Memory:
        """What is remembered of a bead now; its arrays are replaced later, never changed."""
        return self._memory(bead)

    def take(self, bead: int, memory: Memory) -> None:
        """Have a bead remember this instead, as if its last evaluation had left it.

        Raises:
            ConfigError: it is of other atoms.
        """
        memory.check(self._count)
        self._memories[bead] = memory
        self._asked.pop(bead, None)

    def state(self) -> dict[str, Any]:
        """What is remembered, per bead, as plain numbers and lists."""
        unanswered = {b: asked.before for b, asked in self._asked.items() if not asked.done}
        memories = {**self._memories, **unanswered}
        return {str(bead): memory.to_dict() for bead, memory in memories.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            ConfigError: it is something else, or of other atoms.
        """
        try:
            memories = {int(bead): Memory.from_dict(plain) for bead, plain in state.items()}
        except (AttributeError, ValueError) as error:
            raise ConfigError(f"this is no state of a region: {error!r}") from error
        for memory in memories.values():
            memory.check(self._count)
        self._memories, self._asked = memories, {}

    def _memory(self, bead: int) -> Memory:
        return self._memories.setdefault(bead, Memory())

    def _chooses(self, memory: Memory) -> bool:
        """Tell whether a criterion chooses at the coming evaluation."""
        seeds = self._seeds
        return isinstance(seeds, CriterionSeeds) and seeds.chooses(memory.evaluations)

    def _current(self, memory: Memory) -> Seeds:
        """The seeds of the coming evaluation; a criterion chooses here if it is time."""
        seeds = self._seeds
        if not isinstance(seeds, CriterionSeeds):
            return seeds
        if seeds.chooses(memory.evaluations):
            if memory.summed is None:
                raise RuntimeError(
                    f"seeds are to be chosen by {seeds.compute!r}, but none of its values were "
                    "observed: ask due() and observe() before select()"
                )
            memory.chosen = seeds.choose(memory.summed / memory.samples)
            memory.summed, memory.samples = None, 0
        if memory.chosen is not None:
            return AtomSeeds(memory.chosen)
        return AtomSeeds(seeds.initial or ())

    def _target(self, frame: Frame, seeds: Seeds) -> tuple[Near, Scalars]:
        """Atoms near the seeds, and their lambda without memory (0 for some of them)."""
        radius, width = self._core_radius, self._blend_width
        atoms = seeds.atoms(frame)
        near = seeds.near(frame, radius + (0.0 if self._from_core else width))
        if self._from_core or not width:
            core = near.distance < radius
            core |= _among(near.atoms, atoms, len(frame)) if len(atoms) else near.distance == 0.0
            if not width:
                return near, core.astype(np.float64)
            atoms, radius = near.atoms[core], 0.0
            near = near_atoms(frame, atoms, width)
        # nearer than the radius is 1 and beyond the width is 0, as exactly as b(0) and b(1) are
        depth = near.distance - radius
        depth /= width
        np.maximum(depth, 0.0, out=depth)
        np.minimum(depth, 1.0, out=depth)
        share = self._profile.value(depth)
        if not radius and len(atoms):  # rounding of an atom's distance to itself
            share[_among(near.atoms, atoms, len(frame))] = 1.0
        return near, share

    def _remember(self, memory: Memory, expensive: Scalars) -> None:
        """Let lambda follow its target, in place; the first evaluation has nothing to follow."""
        before = _dense(memory, len(expensive))
        if before is not None and self._hysteresis is not None:
            moving = np.flatnonzero(before != expensive)
            target = expensive[moving]
            share = follow(before[moving], target, *self._hysteresis)
            # a held lambda comes to rest, so that updates end: each costs energy, however little
            expensive[moving] = arrive(share, target) if self._held else share
        memory.active = np.flatnonzero(expensive)
        memory.expensive = expensive[memory.active]


@dataclass(slots=True)
class _Asked:
    """The last evaluation of a bead."""

    frame: Frame
    before: Memory
    """What was remembered when it began. `Memory`'s arrays are replaced, never changed."""
    done: bool = False


def _dense(memory: Memory, count: int) -> Scalars | None:
    """(N,) lambda of the last evaluation; None before the first."""
    if memory.active is None:
        return None
    before = np.zeros(count)
    before[memory.active] = memory.expensive
    return before


def _same(one: Frame, other: Frame) -> bool:
    """Whether two frames are equal to the last bit; nearly free where they are not."""
    if len(one) != len(other) or not np.array_equal(one.cell, other.cell):
        return False
    if not np.array_equal(one.positions[:8], other.positions[:8]):
        return False
    return np.array_equal(one.positions, other.positions)


def _among(some: Indices, others: Indices, count: int) -> Mask:
    """Tell which of some atoms are among others, out of `count`."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[others] = True
    found: Mask = mask[some]
    return found
