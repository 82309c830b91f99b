"""The mixers that [region] and [mixing] ask for, made for two models that are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixserver.config import Config, CriterionSeeds
from mixserver.config import Region as RegionTable
from mixserver.core.arrays import Scalars
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.dead_loads import DeadLoads
from mixserver.mixing.energy import EnergyMixer
from mixserver.mixing.force import ForceMixer
from mixserver.mixing.mixer import MixedResult, Mixer
from mixserver.mixing.model_capabilities import ModelCapabilities
from mixserver.mixing.partition import JobSizes
from mixserver.region.region import Region


@dataclass(frozen=True, slots=True)
class ModelPair:
    """What both models can, once their workers have introduced themselves."""

    cheap: ModelCapabilities
    expensive: ModelCapabilities
    fingerprints: tuple[str, str]


def region_table(config: Config) -> RegionTable:
    """The [region] table.

    Raises:
        ConfigError: there is none.
    """
    if config.region is None:
        raise ConfigError("there is no [region], so nothing can be mixed")
    return config.region


def force_mixer(config: Config, model: ModelCapabilities) -> ForceMixer:
    """The mixer of forces.

    Raises:
        ConfigError: the buffers are thinner than the model needs and that was not allowed, or its
            receptive field is unknown.
    """
    table = region_table(config)
    return ForceMixer(
        model=model,
        buffer_width=number_or_none(table.buffer_width),
        halo_width=number_or_none(table.halo_width),
        allow_thin=table.allow_thin_buffer,
        zero_net=config.mixing.zero_net,
        sizes=job_sizes(config),
    )


def energy_mixer(
    config: Config,
    start: Frame,
    models: ModelPair,
    offsets: Scalars,
    loads: DeadLoads | None,
) -> EnergyMixer:
    """The mixer of energies; `offsets` are (N,) eV.

    Where lambda is fixed, clusters are split by the positions that the run starts from, so that
    atoms that vibrate about a cut stay in one job.

    Raises:
        ConfigError: a model gives no weighted site energies, or the halo is too thin.
    """
    table = region_table(config)
    moves = lambda_moves(table)
    return EnergyMixer(
        expensive=models.expensive,
        cheap=models.cheap,
        offsets=offsets,
        halo_width=number_or_none(table.halo_width),
        allow_thin=table.allow_thin_buffer,
        loads=loads,
        energies=moves,
        sizes=job_sizes(config),
        places=None if moves else start.fractional,
    )


def carving_mixer(config: Config, start: Frame, model: ModelCapabilities) -> Mixer:
    """A mixer that carves as a run would, but knows no energy offsets.

    Raises:
        ConfigError: no region; buffers or halo are too thin, or exact and the receptive field of
            the expensive model is unknown.
    """
    if config.mixing.kind == "force":
        return force_mixer(config, model)
    models = ModelPair(ModelCapabilities(None, weights=True, energies=True), model, ("", ""))
    return energy_mixer(config, start, models, np.zeros(len(start)), None)


def job_sizes(config: Config) -> JobSizes:
    """How many core and blend atoms an expensive job should have."""
    model = config.models.expensive
    if model is None:
        return JobSizes()
    return JobSizes(model.min_sites, math.inf if model.max_sites is None else model.max_sites)


def lambda_moves(table: RegionTable) -> bool:
    """Whether lambda moves with the atoms or jumps, so that site energies are needed."""
    return table.follow or isinstance(table.seeds, CriterionSeeds)


def number_or_none(width: float | str) -> float | None:
    """A width in Å; None for "exact"."""
    return None if isinstance(width, str) else width


async def evaluate(
    dispatcher: Dispatcher, mixer: Mixer, frame: Frame, region: Region
) -> MixedResult:
    """One mixed evaluation of a frame, outside of any trajectory."""
    plan = mixer.plan(frame, region)
    jobs = list(plan)
    replies = await dispatcher.run([(key.role, job) for key, job in jobs])
    pairs = zip(jobs, replies, strict=True)
    return mixer.combine(plan, {key: reply.result for (key, _), reply in pairs})
