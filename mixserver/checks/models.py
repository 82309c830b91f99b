"""Checks that ask the models: elements, shells against reach, finite differences, cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec
import numpy as np

from mixserver.arrays import Matrix, Vectors
from mixserver.build import Parts
from mixserver.checks.findings import Finding, Level
from mixserver.checks.regions import Seen, prepared
from mixserver.checks.regions import seen as look_at
from mixserver.config import Case
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.errors import MixserverError
from mixserver.frame import Frame
from mixserver.mixing.force import ForceMixer
from mixserver.mixing.mixer import Mixer, Reach
from mixserver.prepare import carving_mixer
from mixserver.wire.worker import Evaluate, ModelCard, Result, Role

_SHAKE = 0.05
"""Å by which atoms are shaken first: in a perfect crystal every wrong force is zero too."""
_STEP = {"float64": 2e-3, "float32": 1e-2}
"""Å, rms move per atom of the finite differences (fourth order), by the model's precision."""
_STRAIN = {"float64": 5e-4, "float32": 2e-3}
_NOISE = {"float64": 1e-5, "float32": 3e-2}
"""Relative error of a directional derivative that is still noise."""
_WRONG = 5e-2
"""Relative error that no table or jump at a cutoff explains."""


async def check_models(case: Case, parts: Parts) -> list[Finding]:
    """Everything that needs workers: one finding per model and question."""
    config = case.config
    roles: list[Role] = []
    if config.models.cheap is not None:
        roles.append("cheap")
    if config.models.expensive is not None:
        roles.append("expensive")
    found: list[Finding] = []
    cards = {role: await parts.dispatcher.card(role) for role in roles}
    for role, card in cards.items():
        found += _introduce(role, card, parts)
    if any(finding.level == "error" for finding in found):
        return found  # nothing can be evaluated
    start = _shaken(parts.start)
    if config.region is None:
        question = _whole(start)
        return found + await _forces(parts.dispatcher, roles[0], cards[roles[0]], question)
    try:
        preparation = prepared(parts)
        reaches = await preparation.reaches()
        mixer = carving_mixer(config, parts.start, reaches.expensive)
        seen = look_at(parts.start, await preparation.region(), mixer)
    except MixserverError as error:
        found.append(Finding("error", "region", str(error)))
        return found
    found += _region(seen)
    found += await _forces(parts.dispatcher, "cheap", cards["cheap"], mixer.plain(start))
    jobs = mixer.expensive(start, seen.region, seen.cluster)
    if jobs:
        found += await _forces(parts.dispatcher, "expensive", cards["expensive"], jobs[0])
        if config.mixing.kind == "force":
            found += await _buffers(case, parts, reaches.expensive, mixer, seen, start)
    found += await _cost(case, parts, mixer, seen)
    return found


def _introduce(role: Role, card: ModelCard, parts: Parts) -> list[Finding]:
    reach = (
        f"receptive field {card.receptive_field:g} Å" if card.receptive_field else "reach unknown"
    )
    found = [
        Finding(
            "ok",
            role,
            f"{card.name} ({card.engine}, {card.dtype}), {reach}, fingerprint {card.fingerprint}",
        )
    ]
    if card.species is not None:
        lacking = sorted(set(parts.topology.numbers.tolist()) - set(card.species))
        if lacking:
            found.append(
                Finding(
                    "error",
                    f"{role} elements",
                    f"{card.name} does not know Z = {lacking}; it knows {list(card.species)}",
                )
            )
    return found


def _region(seen: Seen) -> list[Finding]:
    found = [
        Finding(
            "ok",
            "region",
            f"seeds {seen.seeds}, core {seen.core}, blend {seen.blend}, buffer {seen.buffer}, "
            f"halo {seen.halo} of {seen.atoms} atoms; clusters: {seen.clusters}",
        )
    ]
    if not len(seen.region.active):
        found.append(
            Finding("warning", "region", "nothing is expensive at the start: look at region.seeds")
        )
    sent = sum(len(cluster.atoms) for cluster in seen.cluster)
    if sent >= seen.atoms > 0:
        found.append(
            Finding(
                "warning",
                "cell",
                "the clusters with their surroundings hold the whole cell, so mixing saves little "
                "here; a larger cell costs the expensive model no more",
            )
        )
    return found


async def _forces(
    dispatcher: Dispatcher, role: Role, card: ModelCard, question: Evaluate
) -> list[Finding]:
    """Forces and virial against differences of the energy, along a random direction each."""
    rng = np.random.default_rng(20)
    precision = "float64" if card.dtype == "float64" else "float32"
    step, stretch = _STEP[precision], _STRAIN[precision]
    try:
        base = (await dispatcher.run([(role, question)]))[0].result
        direction = rng.normal(size=question.positions.shape)
        moved = await _differences(
            dispatcher,
            role,
            [
                msgspec.structs.replace(question, positions=question.positions + s * direction)
                for s in _stencil(step)
            ],
            step,
        )
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / 2.0
        strained = await _differences(
            dispatcher, role, [_strained(question, s * strain) for s in _stencil(stretch)], stretch
        )
    except MixserverError as error:
        return [Finding("error", f"forces of {role}", str(error))]
    said = float(np.vdot(base.forces, direction))
    pushed = float(np.vdot(base.virial, strain))
    allowed = _NOISE[precision]
    return [
        _compare(f"forces of {role}", said, -moved, float(np.linalg.norm(base.forces)), allowed),
        _compare(
            f"virial of {role}", pushed, -strained, float(np.linalg.norm(base.virial)), allowed
        ),
    ]


def _compare(what: str, said: float, measured: float, scale: float, allowed: float) -> Finding:
    error = abs(said - measured) / max(scale, 1e-3)
    if error <= allowed:
        words = f"agrees with differences of the energy to {error:.1e} of its size"
        return Finding("ok", what, words, error)
    words = f"differs from differences of the energy by {error:.1e} of its size"
    if error <= _WRONG:
        return Finding(
            "warning",
            what,
            f"{words}, more than rounding explains: a coarse table, or a jump at the cutoff; "
            "energies drift by as much",
            error,
        )
    return Finding(
        "error",
        what,
        f"{words}: the model or its input file is wrong, or it has no energy that belongs to its "
        "forces",
        error,
    )


def _stencil(step: float) -> tuple[float, ...]:
    return (-2 * step, -step, step, 2 * step)


async def _differences(
    dispatcher: Dispatcher, role: Role, questions: Sequence[Evaluate], step: float
) -> float:
    answers = await dispatcher.run([(role, question) for question in questions])
    e = [answer.result.energy for answer in answers]
    return (8.0 * (e[2] - e[1]) - (e[3] - e[0])) / (12.0 * step)


def _strained(question: Evaluate, strain: Matrix) -> Evaluate:
    deform = np.eye(3) + strain
    return msgspec.structs.replace(
        question, positions=question.positions @ deform, cell=question.cell @ deform
    )


async def _buffers(
    case: Case, parts: Parts, reach: Reach, mixer: Mixer, seen: Seen, start: Frame
) -> list[Finding]:
    """What thinner buffers than exact do to the forces that are used, on the user's structure."""
    region = case.config.region
    thin = region is not None and (region.buffer_width, region.halo_width) != ("exact", "exact")
    if region is None or not thin:
        return [Finding("ok", "buffer", "exact: forces do not depend on where clusters are cut")]
    if reach.receptive_field is None:
        return [
            Finding(
                "warning",
                "buffer",
                "the model's reach is unknown, so the error of the buffer cannot be measured here",
            )
        ]
    exact = ForceMixer(reach=reach)
    used = await _expensive_forces(parts, mixer, seen, start)
    right = await _expensive_forces(parts, exact, seen, start)
    weight = seen.region.expensive[:, None]
    error = np.linalg.norm(weight * (used - right), axis=1)[seen.region.active]
    worst, rms = float(error.max()), float(np.sqrt(np.mean(error**2)))
    level: Level = "ok" if worst < 1e-2 else "warning"
    return [
        Finding(
            level,
            "buffer",
            f"thinner than exact: mixed forces differ by rms {rms:.1e}, at most {worst:.1e} eV/Å",
            worst,
        )
    ]


async def _expensive_forces(parts: Parts, mixer: Mixer, seen: Seen, start: Frame) -> Vectors:
    clusters = mixer.carve(start, seen.region)
    questions: list[tuple[Role, Evaluate]] = [
        ("expensive", job) for job in mixer.expensive(start, seen.region, clusters)
    ]
    forces = np.zeros((len(start), 3))
    for cluster, answer in zip(clusters, await parts.dispatcher.run(questions), strict=True):
        result: Result = answer.result
        forces[cluster.atoms[cluster.keep]] = result.forces[cluster.keep]
    return forces


async def _cost(case: Case, parts: Parts, mixer: Mixer, seen: Seen) -> list[Finding]:
    """Seconds per evaluation, from three evaluations as a run would make them."""
    cheap, expensive = [], []
    for seed in range(4):  # moved each time: some engines remember the last positions
        frame = _shaken(seen.frame, seed)
        questions: list[tuple[Role, Evaluate]] = [("cheap", mixer.cheap(frame, seen.region))]
        questions += [
            ("expensive", job) for job in mixer.expensive(frame, seen.region, seen.cluster)
        ]
        answers = await parts.dispatcher.run(questions)
        cheap.append(answers[0].took_s)
        expensive.append(max((a.waited_s + a.took_s for a in answers[1:]), default=0.0))
    c, e = statistics.median(cheap[1:]), statistics.median(expensive[1:])
    return [
        Finding(
            "ok",
            "cost",
            f"cheap {1e3 * c:.0f} ms and expensive {1e3 * e:.0f} ms at the same time: 1000 "
            f"evaluations take about {_duration(1000 * max(c, e))}; every bead counts",
            max(c, e),
        )
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _shaken(start: Frame, seed: int = 10) -> Frame:
    rng = np.random.default_rng(seed)
    moved = start.positions + rng.normal(scale=_SHAKE, size=start.positions.shape)
    return start.topology.frame(moved, start.cell)


def _whole(frame: Frame) -> Evaluate:
    return Evaluate(
        job=0,
        stream=0,
        positions=frame.wrapped,
        numbers=frame.topology.numbers,
        cell=frame.cell,
        pbc=frame.topology.pbc,
    )
