"""Benchmark: all candidates run in their engines, compared with the expensive model and timed.

A candidate that fails gets the reason in `trouble`, and the others are evaluated all the same.
Workers are started for it.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from mixserver.analysis.bulk.evaluate import model_evaluator
from mixserver.analysis.bulk.properties import bulk_properties
from mixserver.analysis.bulk.supercell import repeated, repeats_for_atoms
from mixserver.core.arrays import Scalars
from mixserver.core.errors import MixserverError
from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.distill.context import Distillation
from mixserver.distill.data.labels import Structure
from mixserver.distill.data.reference_data import ReferenceData
from mixserver.distill.data.splits import split_structures
from mixserver.distill.progress import EvaluationCounter
from mixserver.distill.recipe_workers import cheap_workers
from mixserver.distill.results import Candidate
from mixserver.distill.validation.inclusion import (
    Inclusion,
    inclusion,
    relaxed_inclusion,
    strain_error,
)
from mixserver.mixing.jobs import whole_system_job
from mixserver.wire.worker import Role

_ROUNDS: Final = 3
"""Of timings, candidate after candidate, so that load on the machine affects all alike."""
_FAILURES: Final = (MixserverError, ValueError, ArithmeticError)
"""In which the evaluation of a bad potential may end; numpy's own errors are among them."""
_SITE_ENERGIES: Final = 4
"""Hot structures whose site energies are compared."""
_STREAM: Final = 1 << 29
_ATOMS: Final = 1000
"""For timing."""
_TIMES: Final = 7
_MOVE: Final = 0.02
"""Å by which atoms move from one timed evaluation to the next."""


@dataclass(frozen=True, eq=False)
class WrittenCandidate:
    """A candidate and what runs it."""

    candidate: Candidate
    command: tuple[str, ...]
    """Arguments of mixserver-worker."""


@dataclass(frozen=True, eq=False)
class _Expensive:
    """The expensive model's side of the comparisons."""

    crystal: Frame
    hot: Sequence[Structure]
    site_energies: Sequence[Scalars] = ()
    inclusion: Inclusion | None = None
    trouble: str = ""


async def benchmark(
    run: Distillation,
    data: ReferenceData,
    listed: Sequence[WrittenCandidate],
    folder: Path,
    *,
    step: str,
    thorough: bool = True,
) -> list[Candidate]:
    """Evaluate all candidates, and time them side by side.

    If `thorough`, with vacancy, phonons, site energies and an inclusion. Where a candidate could
    not be evaluated, its `trouble` has the reason. The folder is for the workers' logs.
    """
    counter = EvaluationCounter(run.progress, step)
    splits = split_structures(data.training, run.recipe.fit.validation)
    test = (data.labels(name).structure for name, split in splits.items() if split == "test")
    hot = [structure for structure in test if structure.kind == "hot"][:_SITE_ENERGIES]
    expensive = _Expensive(data.crystal, hot)
    if thorough:
        expensive = await _compute_expensive(run, data, hot, counter)
    done, total = 0, len(listed) * (1 + _ROUNDS)
    run.progress(step, done, total)
    found: list[Candidate] = []
    times: list[list[tuple[float, float]]] = [[] for _ in listed]
    async with contextlib.AsyncExitStack() as stack:
        dispatchers: list[Dispatcher | None] = []
        for at, one in enumerate(listed):
            workers = cheap_workers(run.project, one.command, folder / f"workers-{at}")
            dispatcher: Dispatcher | None = None
            candidate = one.candidate
            if expensive.trouble:
                candidate = msgspec.structs.replace(candidate, trouble=expensive.trouble)
            try:
                dispatcher = await stack.enter_async_context(workers)
                fields = _compare(run, dispatcher, expensive, counter, thorough=thorough)
                async for name, value in fields:
                    candidate = msgspec.structs.replace(candidate, **{name: value})
            except _FAILURES as error:
                candidate = msgspec.structs.replace(candidate, trouble=str(error))
            dispatchers.append(dispatcher)
            found.append(candidate)
            done += 1
            run.progress(step, done, total)
        for _ in range(_ROUNDS):
            for at, dispatcher in enumerate(dispatchers):
                if dispatcher is not None:
                    with contextlib.suppress(MixserverError):
                        times[at].append(await cost(dispatcher, "cheap", data.crystal))
                done += 1
                run.progress(step, done, total)
    return [_with_cost(candidate, costs) for candidate, costs in zip(found, times, strict=True)]


async def _compute_expensive(
    run: Distillation, data: ReferenceData, hot: Sequence[Structure], counter: EvaluationCounter
) -> _Expensive:
    energies: Sequence[Scalars] = ()
    try:
        energies = await site_energies(run.expensive, "expensive", hot) if hot else ()
        around = None
        if data.card.weights:
            around = await inclusion(run.expensive, data.crystal, counted=counter.counted)
        return _Expensive(data.crystal, hot, energies, around)
    except _FAILURES as error:
        return _Expensive(data.crystal, hot, energies, trouble=f"expensive model: {error}")


async def _compare(
    run: Distillation,
    dispatcher: Dispatcher,
    expensive: _Expensive,
    counter: EvaluationCounter,
    *,
    thorough: bool,
) -> AsyncIterator[tuple[str, object]]:
    """Yield the fields of a candidate, each as soon as it is known."""
    yield (
        "bulk",
        await bulk_properties(
            counter.counted(model_evaluator(dispatcher, "cheap")),
            expensive.crystal,
            vacancy=200 if thorough else 0,
            length=10.0 if thorough else 0.0,
        ),
    )
    if expensive.site_energies:
        cheap = await site_energies(dispatcher, "cheap", expensive.hot)
        yield "spread", spread(expensive.site_energies, cheap, expensive.hot)
    if expensive.inclusion is not None and (await dispatcher.card("cheap")).weights:
        relaxed = await relaxed_inclusion(
            run.expensive, dispatcher, expensive.inclusion, counted=counter.counted
        )
        yield "inclusion", strain_error(expensive.inclusion, relaxed)


def _with_cost(candidate: Candidate, costs: Sequence[tuple[float, float]]) -> Candidate:
    if not costs:
        return candidate
    return msgspec.structs.replace(
        candidate,
        microseconds=statistics.median(middle for middle, _ in costs),
        microseconds_error=statistics.median(spread for _, spread in costs),
    )


async def cost(
    dispatcher: Dispatcher, role: Role, crystal: Frame, *, atoms: int = _ATOMS
) -> tuple[float, float]:
    """Time a model on a supercell whose atoms move a little, by the times that engines report.

    The dispatcher has one worker of the role, on one thread.

    Returns:
        Microseconds per atom with site energies and virial: the median, and half the range of the
        middle half.
    """
    frame = repeated(crystal, repeats_for_atoms(crystal, atoms))
    rng = np.random.default_rng(0)
    positions = frame.positions.copy()
    times = []
    for number in range(_TIMES + 2):
        positions += rng.normal(0.0, _MOVE, positions.shape)
        moved = frame.topology.frame(positions.copy(), frame.cell)
        job = whole_system_job(moved, stream=_STREAM, energies=True)
        (answer,) = await dispatcher.run([(role, job)])
        if number > 1:  # the first one sets up, the second builds neighbour lists
            times.append(1e6 * answer.result.seconds / len(frame))
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, 0.5 * (high - low)


async def site_energies(
    dispatcher: Dispatcher, role: Role, structures: Sequence[Structure]
) -> list[Scalars]:
    """Site energies (N,) eV of each structure."""
    jobs = [
        (role, whole_system_job(structure.frame, stream=_STREAM + 1 + at, energies=True))
        for at, structure in enumerate(structures)
    ]
    answers = await dispatcher.run(jobs)
    return [np.asarray(answer.result.energies) for answer in answers]


def spread(
    expensive: Sequence[Scalars], cheap: Sequence[Scalars], structures: Sequence[Structure]
) -> float:
    """The rms of e_i - c_i (eV) less its mean over each element."""
    difference = np.concatenate([e - c for e, c in zip(expensive, cheap, strict=True)])
    numbers = np.concatenate([structure.numbers for structure in structures])
    for number in np.unique(numbers):
        same = numbers == number
        difference[same] -= difference[same].mean()
    return float(np.sqrt(np.mean(difference**2)))
