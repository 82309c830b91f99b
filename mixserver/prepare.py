"""What must be known before two models can be mixed: their reach, their zeros, dead loads.

Waits for the workers to introduce themselves, and asks them about the case's own structure. Makes
the mixer that a run uses from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import structlog
from ase.data import chemical_symbols

from mixserver.arrays import Indices, Scalars, Vectors
from mixserver.cluster import Carver
from mixserver.config import Config, CriterionSeeds, Model
from mixserver.config import Region as RegionTable
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.errors import ConfigError, Implausible
from mixserver.frame import Frame
from mixserver.mixing.energy import EnergyMixer, refuse_unable
from mixserver.mixing.force import ForceMixer
from mixserver.mixing.loads import DeadLoads
from mixserver.mixing.mixer import Mixed, Mixer, Reach, about, about_all, width
from mixserver.mixing.state import (
    State,
    plain_loads,
    read_state,
    settings_digest,
    structure_digest,
)
from mixserver.mixing.zeros import Zero, align, bulk_like
from mixserver.plausible import crowding, refuse_crowding
from mixserver.region.region import Region
from mixserver.region.selecting import Selecting
from mixserver.relax import relaxed
from mixserver.wire.worker import Evaluate, Role

log = structlog.get_logger(__name__)

STATE = "mixing.json"
"""Zeros and dead loads, in a run's folder, and in a case's if `mixserver align` wrote it."""

_WRONG_REFERENCE: Final = (
    "Look at the structure (units, overlapping atoms) and at what each model was fitted to; "
    "mixserver check shows both models at it. Each bound can be raised in [limits]"
)


@dataclass(frozen=True, slots=True)
class Reaches:
    """How far both models look, once they have introduced themselves."""

    cheap: Reach
    expensive: Reach
    fingerprints: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Preparation:
    """Everything that a mixer is made from, besides the models."""

    config: Config
    start: Frame
    """The structure's own positions."""
    fresh: Callable[[], Selecting]
    """A selector without memory."""
    dispatcher: Dispatcher

    @property
    def table(self) -> RegionTable:
        """The [region] table."""
        if self.config.region is None:
            raise ConfigError("there is no [region], so nothing can be mixed")
        return self.config.region

    async def mixer(
        self, folder: Path, known: Path | None = None, kept: Path | None = None
    ) -> Mixer:
        """Make the mixer of a run; waits for a worker of each role.

        Args:
            folder: gets the state of a mixed energy.
            known: the state of an earlier run that goes on; it must fit.
            kept: a state that is used if it fits, such as `mixserver align` wrote.

        Raises:
            ConfigError: the models cannot be mixed this way, or `known` does not fit.
            Implausible: the structure is too dense, or its zeros or dead loads are too large.
        """
        await asyncio.to_thread(self.refuse_structure)
        reaches = await self.reaches()
        if self.config.mixing.kind == "force":
            return self.force_mixer(reaches)
        state = await self.state(reaches, known, kept)
        try:
            state.write(folder / STATE)
        except OSError as problem:
            log.warning("zeros and dead loads were not saved", error=str(problem))
        return self.energy_mixer(reaches, state)

    def refuse_structure(self) -> None:
        """Refuse a structure in which lambda, zeros and dead loads would mean nothing.

        Raises:
            Implausible: its atoms are too close to each other.
        """
        file = self.config.upstream.structure
        refuse_crowding(self.start, crowding(self.start), self.config.limits, f"{file}")

    async def reaches(self) -> Reaches:
        """What both models say of themselves; waits for them."""
        models = self.config.models
        expensive = await self.dispatcher.card("expensive")
        cheap = await self.dispatcher.card("cheap")
        return Reaches(
            cheap=Reach.of(cheap, (models.cheap or Model()).receptive_field),
            expensive=Reach.of(expensive, (models.expensive or Model()).receptive_field),
            fingerprints=(cheap.fingerprint, expensive.fingerprint),
        )

    def force_mixer(self, reaches: Reaches, *, exact: bool = False) -> ForceMixer:
        """The mixer of forces; `exact` takes full buffers whatever the case says.

        Raises:
            ConfigError: the buffers are thinner than the model needs and that was not allowed, or
                its reach is unknown.
        """
        if exact:
            return ForceMixer(reach=reaches.expensive)
        return _force_mixer(self.config, self.table, reaches.expensive)

    def energy_mixer(self, reaches: Reaches, state: State, *, loads: bool = True) -> EnergyMixer:
        """The mixer of energies.

        Raises:
            ConfigError: a model gives no weighted site energies, or the halo is too thin.
        """
        return _energy_mixer(
            self.table,
            reaches,
            state.aligned(self.start.topology),
            state.dead_loads if loads else None,
        )

    @property
    def moves(self) -> bool:
        """Whether lambda moves with the atoms or jumps, so that site energies are needed."""
        return _moves(self.table)

    async def state(
        self, reaches: Reaches, known: Path | None = None, kept: Path | None = None
    ) -> State:
        """The state of the mixed energy: recalled where there is one that fits, or determined.

        Raises:
            ConfigError: `known` does not fit, or the models give no site energies.
            Implausible: the zeros or the dead loads are too large.
        """
        found = self._recalled(self._settings(reaches), known, kept)
        if found is not None:
            self._refuse(found)
        return found or await self.determine(reaches)

    def _refuse(self, state: State) -> None:
        """Refuse zeros and dead loads that no two models can need.

        Raises:
            Implausible: they are too large.
        """
        limits = self.config.limits
        for symbol, zero in state.zeros.items():
            if zero.spread > limits.zero_spread:
                raise Implausible(
                    f"the zero of {symbol} means nothing: expensive less cheap site energies "
                    f"differ by {zero.spread:.4g} eV (standard deviation) among {zero.atoms} atoms "
                    f"of {self.config.upstream.structure}; the limit is {limits.zero_spread:g} "
                    f"(limits.zero_spread). {self._closest()}{_WRONG_REFERENCE}"
                )
        loads = state.dead_loads
        if loads is not None and loads.largest > limits.dead_load:
            worst = int(loads.atoms[int(np.linalg.norm(loads.forces, axis=1).argmax())])
            symbol = chemical_symbols[int(self.start.topology.numbers[worst])]
            raise Implausible(
                f"dead loads of up to {loads.largest:.4g} eV/Å, on {symbol} (atom {worst}), would "
                f"be needed at {self.config.upstream.structure}; the limit is {limits.dead_load:g} "
                f"(limits.dead_load): no two models that describe it divide its energy so "
                f"differently. {self._closest()}{_WRONG_REFERENCE}"
            )

    def _closest(self) -> str:
        """The closest atoms of the structure, in a sentence."""
        pair = crowding(self.start).closest
        return "" if pair is None else f"Its closest atoms: {pair}. "

    def _recalled(self, settings: str, known: Path | None, kept: Path | None) -> State | None:
        """A state that was written down before, if one fits."""
        topology = self.start.topology
        if known is not None and known.exists():
            state = read_state(known, topology)
            if state.settings != settings:
                raise ConfigError(
                    f"{known} is of other models, or of other [region] or [mixing] settings: the "
                    "potential would change in the middle of a run. Set them back, or start a "
                    "fresh run"
                )
            return state
        if known is not None:
            log.warning("zeros and dead loads are determined again", missing=str(known))
        if kept is not None and kept.exists():
            state = read_state(kept, topology)
            if (state.settings, state.structure) == (settings, structure_digest(self.start)):
                return state
            log.warning("models, settings or structure have changed", not_used=str(kept))
        return None

    def _settings(self, reaches: Reaches) -> str:
        numbers = self.start.topology.numbers.tolist()
        mixing = msgspec.structs.replace(self.config.mixing, bulk=None)  # `check` alone looks there
        return settings_digest(reaches.fingerprints, numbers, self.table, mixing)

    async def determine(self, reaches: Reaches) -> State:
        """Determine zeros, and dead loads if they are wanted, at the structure's positions.

        Raises:
            ConfigError: the models give no weighted site energies, or the structure cannot be
                relaxed.
            Implausible: the zeros or the dead loads are too large.
        """
        refuse_unable("cheap", reaches.cheap, self.moves)  # before any of them is asked for some
        refuse_unable("expensive", reaches.expensive, self.moves)
        region = await self.region()
        zeros = await self._zeros(reaches, region)
        state = State(
            atoms=len(self.start),
            settings=self._settings(reaches),
            structure=structure_digest(self.start),
            zeros=zeros,
        )
        self._refuse(state)
        for symbol, zero in zeros.items():
            log.info("zero of energy", element=symbol, **msgspec.structs.asdict(zero))
        wanted = self.config.mixing.dead_loads or ("off" if self.moves else "structure")
        if wanted == "off":
            return state
        loads = await self._loads(reaches, state, region, relax=wanted == "relaxed")
        state = msgspec.structs.replace(state, loads=plain_loads(loads))
        self._refuse(state)
        log.info("dead loads", atoms=len(loads.atoms), largest=loads.largest)
        return state

    async def region(self) -> Region:
        """How the structure itself is divided."""
        selector = self.fresh()
        due = selector.due(0)
        if due.choose:
            question = about_all(self.start, criterion=due.criterion)
            (answer,) = await self.dispatcher.run([("cheap", question)])
            if answer.result.values is not None:
                selector.observe(0, answer.result.values)
        return selector.select(self.start)

    async def gaps(self, reaches: Reaches, atoms: Indices) -> Scalars:
        """(n,) eV, e - c of some atoms of the structure, as the models say it.

        Raises:
            ConfigError: a model does not return site energies, or nobody knows how far it looks.
        """
        for role, reach in (("cheap", reaches.cheap), ("expensive", reaches.expensive)):
            if not reach.energies:
                raise ConfigError(
                    f"the {role} model {reach.name!r} does not return site energies, so zeros "
                    "cannot be aligned: give mixing.zeros, or take mixing.kind = 'force'"
                )
        chosen = np.zeros(len(self.start))
        chosen[atoms] = 1.0
        table = self.table
        halo = width(
            "halo_width", _number(table.halo_width), reaches.expensive, table.allow_thin_buffer
        )
        clusters = Carver(0.0, halo, link_width=halo).carve(
            self.start, Region(chosen, np.empty(0, dtype=np.intp))
        )
        jobs = [about(self.start, c, c.sites, energies=True) for c in clusters]
        whole = about_all(self.start, energies=True)
        answers = await self.dispatcher.run(
            [("cheap", whole), *(("expensive", job) for job in jobs)]
        )
        found = np.full(len(self.start), np.nan)
        for cluster, answer in zip(clusters, answers[1:], strict=True):
            if answer.result.energies is not None:
                found[cluster.atoms[cluster.keep]] = answer.result.energies[cluster.keep]
        if answers[0].result.energies is not None:
            found -= answers[0].result.energies
        gaps: Scalars = found[atoms]
        return gaps

    async def _zeros(self, reaches: Reaches, region: Region) -> dict[str, Zero]:
        numbers = self.start.topology.numbers
        given = self.config.mixing.zeros
        zeros = {symbol: Zero(value, 0.0, 0, bulk=True) for symbol, value in given.items()}
        if {chemical_symbols[z] for z in np.unique(numbers)} <= set(zeros):
            return zeros
        atoms = bulk_like(self.start, region)
        gaps = await self.gaps(reaches, atoms)
        aligned = align(numbers[atoms], gaps, region.expensive[atoms])
        return {chemical_symbols[z]: zero for z, zero in aligned.items()} | zeros

    async def _loads(
        self, reaches: Reaches, state: State, region: Region, *, relax: bool
    ) -> DeadLoads:
        """The loads that turn energy-mixed forces into force-mixed ones at the reference."""
        by_force = self.force_mixer(reaches, exact=True)
        reference = self.start
        if relax:

            async def forces(frame: Frame) -> Vectors:
                return (await evaluate(self.dispatcher, by_force, frame, region)).forces

            reference = await relaxed(reference, forces)
        by_energy = self.energy_mixer(reaches, state, loads=False)
        have, want = await asyncio.gather(
            evaluate(self.dispatcher, by_energy, reference, region),
            evaluate(self.dispatcher, by_force, reference, region),
        )
        return DeadLoads.between(reference, have.forces, want.forces)


async def evaluate(dispatcher: Dispatcher, mixer: Mixer, frame: Frame, region: Region) -> Mixed:
    """One mixed evaluation of a frame, outside of any trajectory."""
    clusters = mixer.carve(frame, region)
    jobs = mixer.expensive(frame, region, clusters)
    asked = mixer.needs_cheap(region)
    questions: list[tuple[Role, Evaluate]] = [("expensive", job) for job in jobs]
    if asked:
        questions.insert(0, ("cheap", mixer.cheap(frame, region)))
    answers = await dispatcher.run(questions)
    results = [answer.result for answer in answers]
    cheap = results.pop(0) if asked else None
    return mixer.mix(frame, region, clusters, cheap, results)


def carving_mixer(config: Config, start: Frame, reach: Reach) -> Mixer:
    """A mixer that carves as a run would, but knows no zeros.

    Raises:
        ConfigError: no region; buffers or halo are too thin, or exact and the reach is unknown.
    """
    table = config.region
    if table is None:
        raise ConfigError("there is no [region], so nothing can be mixed")
    if config.mixing.kind == "force":
        return _force_mixer(config, table, reach)
    anybody = Reach(None, weights=True, energies=True)
    return _energy_mixer(table, Reaches(anybody, reach, ("", "")), np.zeros(len(start)), None)


def _force_mixer(config: Config, table: RegionTable, reach: Reach) -> ForceMixer:
    return ForceMixer(
        reach=reach,
        buffer_width=_number(table.buffer_width),
        halo_width=_number(table.halo_width),
        allow_thin=table.allow_thin_buffer,
        zero_net=config.mixing.zero_net,
    )


def _energy_mixer(
    table: RegionTable, reaches: Reaches, zeros: Scalars, loads: DeadLoads | None
) -> EnergyMixer:
    return EnergyMixer(
        expensive=reaches.expensive,
        cheap=reaches.cheap,
        zeros=zeros,
        halo_width=_number(table.halo_width),
        allow_thin=table.allow_thin_buffer,
        loads=loads,
        energies=_moves(table),
    )


def _moves(table: RegionTable) -> bool:
    return table.follow or isinstance(table.seeds, CriterionSeeds)


def once(make: Callable[[], Awaitable[Mixer]]) -> Callable[[], Awaitable[Mixer]]:
    """Make something once, however many ask for it at the same time; again if it failed."""
    making: asyncio.Future[Mixer] | None = None

    async def made() -> Mixer:
        nonlocal making
        if making is None or (making.done() and (making.cancelled() or making.exception())):
            making = asyncio.ensure_future(make())
        return await asyncio.shield(making)

    return made


def _number(width: float | str) -> float | None:
    return None if isinstance(width, str) else width
