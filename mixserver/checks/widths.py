"""What shells thinner than exact do to the forces that are used, on the user's own structure."""

from __future__ import annotations

import msgspec
import numpy as np

from mixserver.arrays import Scalars, Vectors
from mixserver.checks.findings import Finding, Level
from mixserver.checks.ghosts import divider
from mixserver.checks.regions import Seen
from mixserver.config import Region as RegionTable
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.frame import Frame
from mixserver.mixing.force import ForceMixer
from mixserver.mixing.mixer import Mixer, Reach
from mixserver.mixing.state import State
from mixserver.prepare import Preparation, Reaches, evaluate
from mixserver.wire.worker import Evaluate, Result, Role

_SMALL = 1e-2
"""eV/Å of error that few will mind."""


async def check_buffer(
    table: RegionTable, dispatcher: Dispatcher, reach: Reach, mixer: Mixer, seen: Seen, start: Frame
) -> list[Finding]:
    """The error of a buffer and a halo under force mixing, at shaken positions."""
    if (table.buffer_width, table.halo_width) == ("exact", "exact"):
        return [Finding("ok", "buffer", "exact: forces do not depend on where clusters are cut")]
    if reach.receptive_field is None:
        return [_unknown("buffer")]
    used = await _expensive_forces(dispatcher, mixer, seen, start)
    right = await _expensive_forces(dispatcher, ForceMixer(reach=reach), seen, start)
    weight = seen.region.expensive[:, None]
    error = np.linalg.norm(weight * (used - right), axis=1)[seen.region.active]
    return [_measured("buffer", error, "")]


async def check_halo(
    preparation: Preparation, reaches: Reaches, state: State, seen: Seen, start: Frame
) -> list[Finding]:
    """The error of a halo under energy mixing, at shaken positions."""
    if preparation.table.halo_width == "exact":
        return [Finding("ok", "halo", "exact: energies do not depend on where clusters are cut")]
    if reaches.expensive.receptive_field is None:
        return [_unknown("halo")]
    region = divider(preparation, seen.region)(start)
    forces = []
    for case in (preparation, _exact(preparation)):
        mixer = case.energy_mixer(reaches, state)
        forces.append((await evaluate(case.dispatcher, mixer, start, region)).forces)
    error = np.linalg.norm(forces[0] - forces[1], axis=1)
    jumps = "; besides, the energy jumps a little where atoms enter and leave the halo"
    return [_measured("halo", error, jumps)]


def _exact(preparation: Preparation) -> Preparation:
    """The same case with an exact halo."""
    table = msgspec.structs.replace(preparation.table, halo_width="exact")
    config = msgspec.structs.replace(preparation.config, region=table)
    return Preparation(config, preparation.start, preparation.fresh, preparation.dispatcher)


def _unknown(what: str) -> Finding:
    return Finding(
        "warning",
        what,
        f"the model's reach is unknown, so the error of the {what} cannot be measured here",
    )


def _measured(what: str, error: Scalars, more: str) -> Finding:
    moved = error[error > 0.0]
    worst = float(error.max(initial=0.0))
    rms = float(np.sqrt(np.mean(moved**2))) if len(moved) else 0.0
    level: Level = "ok" if worst < _SMALL else "warning"
    return Finding(
        level,
        what,
        f"thinner than exact: mixed forces differ by rms {rms:.1e}, at most {worst:.1e} eV/Å{more}",
        worst,
    )


async def _expensive_forces(
    dispatcher: Dispatcher, mixer: Mixer, seen: Seen, start: Frame
) -> Vectors:
    clusters = mixer.carve(start, seen.region)
    questions: list[tuple[Role, Evaluate]] = [
        ("expensive", job) for job in mixer.expensive(start, seen.region, clusters)
    ]
    forces = np.zeros((len(start), 3))
    for cluster, answer in zip(clusters, await dispatcher.run(questions), strict=True):
        result: Result = answer.result
        forces[cluster.atoms[cluster.keep]] = result.forces[cluster.keep]
    return forces
