"""What must be known before two models can be mixed, and the mixer that is made from it.

Waits for the workers to introduce themselves, and has them evaluate the case's own structure for
energy offsets and dead loads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import structlog
from ase.data import chemical_symbols

from mixserver.config import Config, Model
from mixserver.config import Region as RegionTable
from mixserver.core.arrays import Indices, Scalars, Vectors
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.clusters import Carver
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.energy_offsets import EnergyOffset, align, matching_atoms
from mixserver.mixing.energy_reference import (
    EnergyReference,
    settings_digest,
    stored_loads,
    structure_digest,
)
from mixserver.mixing.force import ForceMixer
from mixserver.mixing.jobs import cluster_job, whole_system_job
from mixserver.mixing.mixer import Mixer
from mixserver.mixing.model_capabilities import (
    ModelCapabilities,
    check_weightable,
    resolve_width,
)
from mixserver.region.protocol import RegionModel
from mixserver.region.region import Region
from mixserver.server.energy_reference import (
    ENERGY_REFERENCE,
    check_energy_reference,
    recall_energy_reference,
)
from mixserver.server.mixers import (
    ModelPair,
    energy_mixer,
    evaluate,
    force_mixer,
    lambda_moves,
    number_or_none,
    region_table,
)
from mixserver.server.reference.packing import Packing, check_packing, measure_packing
from mixserver.server.relax import relaxed

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MixingSetup:
    """Everything that a mixer is made from, besides the models."""

    config: Config
    start: Frame
    """The structure's own positions."""
    fresh: Callable[[], RegionModel]
    """A region model without memory."""
    dispatcher: Dispatcher

    @cached_property
    def packing(self) -> Packing:
        """How close the atoms of the structure are to each other."""
        return measure_packing(self.start)

    @property
    def table(self) -> RegionTable:
        """The [region] table."""
        return region_table(self.config)

    @property
    def moves(self) -> bool:
        """Whether lambda moves with the atoms or jumps, so that site energies are needed."""
        return lambda_moves(self.table)

    async def mixer(
        self, folder: Path, known: Path | None = None, kept: Path | None = None
    ) -> Mixer:
        """Make the mixer of a run; waits for a worker of each role.

        Args:
            folder: gets the energy offsets and dead loads.
            known: those of an earlier run that goes on; they must fit.
            kept: those that are used if they fit, such as `mixserver align` wrote.

        Raises:
            ConfigError: the models cannot be mixed this way, or `known` does not fit.
            Implausible: the structure is too dense, or its offsets or dead loads are too large.
        """
        await asyncio.to_thread(self._check_structure)
        reaches = await self.reaches()
        if self.config.mixing.kind == "force":
            return self.force_mixer(reaches)
        state = await self.state(reaches, known, kept)
        try:
            state.write(folder / ENERGY_REFERENCE)
        except OSError as problem:
            log.warning("energy offsets and dead loads were not saved", error=str(problem))
        return self.energy_mixer(reaches, state)

    def _check_structure(self) -> None:
        """Refuse a structure so dense that lambda, offsets and dead loads would mean nothing."""
        check_packing(self.start, self.packing, self.config.limits, self.config.upstream.structure)

    async def reaches(self) -> ModelPair:
        """What both models say of themselves; waits for them."""
        models = self.config.models
        expensive = await self.dispatcher.card("expensive")
        cheap = await self.dispatcher.card("cheap")
        return ModelPair(
            cheap=ModelCapabilities.of(cheap, (models.cheap or Model()).receptive_field),
            expensive=ModelCapabilities.of(
                expensive, (models.expensive or Model()).receptive_field
            ),
            fingerprints=(cheap.fingerprint, expensive.fingerprint),
        )

    def force_mixer(self, reaches: ModelPair, *, exact: bool = False) -> ForceMixer:
        """The mixer of forces; `exact` takes full buffers whatever the case says.

        Raises:
            ConfigError: as `mixers.force_mixer`.
        """
        model = reaches.expensive
        return ForceMixer(model=model) if exact else force_mixer(self.config, model)

    def energy_mixer(
        self, reaches: ModelPair, state: EnergyReference, *, loads: bool = True
    ) -> EnergyMixer:
        """The mixer of energies.

        Raises:
            ConfigError: as `mixers.energy_mixer`.
        """
        offsets = state.aligned(self.start.topology)
        return energy_mixer(
            self.config, self.start, reaches, offsets, state.dead_loads if loads else None
        )

    async def state(
        self, reaches: ModelPair, known: Path | None = None, kept: Path | None = None
    ) -> EnergyReference:
        """Energy offsets and dead loads: recalled where there are some that fit, or determined.

        Raises:
            ConfigError: `known` does not fit, or the models give no site energies.
            Implausible: they are too large.
        """
        found = recall_energy_reference(self.start, self._settings(reaches), known, kept)
        if found is None:
            return await self.determine(reaches)
        self._check(found)
        return found

    def _check(self, found: EnergyReference) -> None:
        check_energy_reference(found, self.config, self.start, self.packing)

    def _settings(self, reaches: ModelPair) -> str:
        numbers = self.start.topology.numbers.tolist()
        mixing = msgspec.structs.replace(self.config.mixing, bulk=None)  # `check` alone looks there
        return settings_digest(reaches.fingerprints, numbers, self.table, mixing)

    async def determine(self, reaches: ModelPair) -> EnergyReference:
        """Determine energy offsets, and dead loads if wanted, at the structure's positions.

        Raises:
            ConfigError: the models give no weighted site energies, or the structure cannot be
                relaxed.
            Implausible: the offsets or the dead loads are too large.
        """
        check_weightable("cheap", reaches.cheap, self.moves)  # before any of them is asked for some
        check_weightable("expensive", reaches.expensive, self.moves)
        region = await self.region()
        zeros = await self._zeros(reaches, region)
        state = EnergyReference(
            atoms=len(self.start),
            settings=self._settings(reaches),
            structure=structure_digest(self.start),
            zeros=zeros,
        )
        self._check(state)
        for symbol, zero in zeros.items():
            log.info("zero of energy", element=symbol, **msgspec.structs.asdict(zero))
        wanted = self.config.mixing.dead_loads or ("off" if self.moves else "structure")
        if wanted == "off":
            return state
        loads = await self._loads(reaches, state, region, relax=wanted == "relaxed")
        state = msgspec.structs.replace(state, loads=stored_loads(loads))
        self._check(state)
        log.info("dead loads", atoms=len(loads.atoms), largest=loads.largest)
        return state

    async def region(self) -> Region:
        """How the structure itself is divided."""
        evaluation = self.fresh().evaluation(self.start)
        if evaluation.selects:
            job = whole_system_job(self.start, criterion=evaluation.criterion)
            (reply,) = await self.dispatcher.run([("cheap", job)])
            evaluation.record_criterion(reply.result.values)
        return evaluation.region()

    async def gaps(self, reaches: ModelPair, atoms: Indices) -> Scalars:
        """Differences e - c of the site energies of some atoms of the structure, (n,) eV.

        Raises:
            ConfigError: a model does not return site energies, or its receptive field is unknown.
        """
        for role, reach in (("cheap", reaches.cheap), ("expensive", reaches.expensive)):
            if not reach.energies:
                raise ConfigError(
                    f"the {role} model {reach.name!r} does not return site energies, so "
                    "energy offsets cannot be determined: give them as mixing.zeros, or take "
                    "mixing.kind = 'force'"
                )
        chosen = np.zeros(len(self.start))
        chosen[atoms] = 1.0
        table = self.table
        halo = resolve_width(
            "halo_width",
            number_or_none(table.halo_width),
            reaches.expensive,
            table.allow_thin_buffer,
        )
        clusters = Carver(0.0, halo, link_width=halo).carve(
            self.start, Region(chosen, np.empty(0, dtype=np.intp))
        )
        jobs = [cluster_job(self.start, c, c.sites, energies=True) for c in clusters]
        whole = whole_system_job(self.start, energies=True)
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

    async def _zeros(self, reaches: ModelPair, region: Region) -> dict[str, EnergyOffset]:
        numbers = self.start.topology.numbers
        given = self.config.mixing.zeros
        zeros = {symbol: EnergyOffset(value, 0.0, 0, bulk=True) for symbol, value in given.items()}
        if {chemical_symbols[z] for z in np.unique(numbers)} <= set(zeros):
            return zeros
        atoms = matching_atoms(self.start, region)
        gaps = await self.gaps(reaches, atoms)
        aligned = align(numbers[atoms], gaps, region.lambda_[atoms])
        return {chemical_symbols[z]: zero for z, zero in aligned.items()} | zeros

    async def _loads(
        self, reaches: ModelPair, state: EnergyReference, region: Region, *, relax: bool
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
