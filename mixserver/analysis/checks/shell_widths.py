"""The check of buffer and halo widths: errors of mixed forces with shells thinner than exact."""

from __future__ import annotations

import msgspec
import numpy as np

from mixserver.analysis.checks.findings import Finding, Level
from mixserver.analysis.checks.ghost_forces import region_function
from mixserver.analysis.region_preview import RegionPreview
from mixserver.config import Region as RegionTable
from mixserver.core.arrays import Scalars, Vectors
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.energy_reference import EnergyReference
from mixserver.mixing.force import ForceMixer
from mixserver.mixing.mixer import Mixer
from mixserver.mixing.model_capabilities import ModelCapabilities
from mixserver.server.mixers import ModelPair, evaluate
from mixserver.server.mixing_setup import MixingSetup
from mixserver.wire.worker import Result

_NEGLIGIBLE_ERROR = 1e-2
"""eV/Å; smaller errors are negligible for most purposes."""


async def check_buffer(
    table: RegionTable,
    dispatcher: Dispatcher,
    reach: ModelCapabilities,
    mixer: Mixer,
    seen: RegionPreview,
    start: Frame,
) -> list[Finding]:
    """The error of a buffer and a halo under force mixing, at displaced positions."""
    if (table.buffer_width, table.halo_width) == ("exact", "exact"):
        return [Finding("ok", "buffer", "exact: forces do not depend on where clusters are cut")]
    if reach.receptive_field is None:
        return [_unknown("buffer")]
    used = await _expensive_forces(dispatcher, mixer, seen, start)
    exact = await _expensive_forces(dispatcher, ForceMixer(model=reach), seen, start)
    weight = seen.region.lambda_[:, None]
    error = np.linalg.norm(weight * (used - exact), axis=1)[seen.region.active]
    return [_measured("buffer", error, "")]


async def check_halo(
    setup: MixingSetup,
    reaches: ModelPair,
    state: EnergyReference,
    seen: RegionPreview,
    start: Frame,
) -> list[Finding]:
    """The error of a halo under energy mixing, at displaced positions."""
    if setup.table.halo_width == "exact":
        return [Finding("ok", "halo", "exact: energies do not depend on where clusters are cut")]
    if reaches.expensive.receptive_field is None:
        return [_unknown("halo")]
    region = region_function(setup, seen.region)(start)
    forces = []
    for case in (setup, _exact(setup)):
        mixer = case.energy_mixer(reaches, state)
        forces.append((await evaluate(case.dispatcher, mixer, start, region)).forces)
    error = np.linalg.norm(forces[0] - forces[1], axis=1)
    jumps = "; in addition, the energy has small jumps where atoms enter and leave the halo"
    return [_measured("halo", error, jumps)]


def _exact(setup: MixingSetup) -> MixingSetup:
    """The same case with an exact halo."""
    table = msgspec.structs.replace(setup.table, halo_width="exact")
    config = msgspec.structs.replace(setup.config, region=table)
    return MixingSetup(config, setup.start, setup.fresh, setup.dispatcher)


def _unknown(what: str) -> Finding:
    words = f"the model's receptive field is unknown, so the error of the {what} cannot be measured"
    return Finding("warning", what, words)


def _measured(what: str, error: Scalars, more: str) -> Finding:
    moved = error[error > 0.0]
    worst = float(error.max(initial=0.0))
    rms = float(np.sqrt(np.mean(moved**2))) if len(moved) else 0.0
    level: Level = "ok" if worst < _NEGLIGIBLE_ERROR else "warning"
    words = (
        f"thinner than exact: mixed forces differ by rms {rms:.1e}, at most {worst:.1e} eV/Å{more}"
    )
    return Finding(level, what, words, worst)


async def _expensive_forces(
    dispatcher: Dispatcher, mixer: Mixer, seen: RegionPreview, start: Frame
) -> Vectors:
    plan = mixer.plan(start, seen.region, whole_known=True)
    questions = [(key.role, job) for key, job in plan]
    forces = np.zeros((len(start), 3))
    for cluster, answer in zip(plan.clusters, await dispatcher.run(questions), strict=True):
        result: Result = answer.result
        forces[cluster.atoms[cluster.keep]] = result.forces[cluster.keep]
    return forces
