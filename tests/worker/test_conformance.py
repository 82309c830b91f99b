"""The conformance suite finds engines that break one rule each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mixserver_worker.conformance import ConformanceError, System, Tolerance, check_engine
from mixserver_worker.engine import EngineResult
from mixserver_worker.engines.toy import ToyEngine

from mixserver.core.errors import BadInput
from mixserver.wire.worker import Evaluate, ModelCard

Spoil = Callable[[Evaluate, EngineResult], EngineResult]


class Spoiled:
    """A toy engine whose answers are changed afterwards."""

    def __init__(self, spoil: Spoil, **card: object) -> None:
        self._toy, self._spoil, self._changes = ToyEngine(), spoil, card

    @property
    def card(self) -> ModelCard:
        card = self._toy.card
        fields = {name: getattr(card, name) for name in card.__struct_fields__}
        return ModelCard(**{**fields, **self._changes})

    def evaluate(self, job: Evaluate) -> EngineResult:
        return self._spoil(job, self._toy.evaluate(job))

    def close(self) -> None:
        self._toy.close()


@pytest.fixture
def system() -> System:
    dice = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(*[np.arange(2) / 2] * 3, indexing="ij"), -1).reshape(-1, 3)
    cell = np.array([[6.5, 0.0, 0.0], [1.0, 7.0, 0.0], [-1.0, 0.5, 6.0]])
    positions = grid @ cell + dice.normal(scale=0.2, size=(8, 3))
    return System(positions, np.full(8, 14, np.int32), cell)


def remember(job: Evaluate, answer: EngineResult, seen: list[EngineResult]) -> EngineResult:
    seen.append(answer)
    return replace(answer, energy=answer.energy + 1e-4 * len(seen))


def pinned(job: Evaluate, answer: EngineResult) -> EngineResult:
    """A potential fixed in space: a true gradient, but not invariant."""
    pull = 1e-3 * np.sin(job.positions[:, 0])
    weight = 1.0 if job.weight is None else job.weight
    forces = answer.forces.copy()
    forces[:, 0] -= weight * 1e-3 * np.cos(job.positions[:, 0])
    return replace(answer, energy=float(answer.energy + np.sum(weight * pull)), forces=forces)


SPOILED: dict[str, tuple[Spoil, str]] = {
    "a force too large": (lambda _, a: replace(a, forces=1.001 * a.forces), "-dE/dr"),
    "virial of the other sign": (lambda _, a: replace(a, virial=-a.virial), "-dE/dstrain"),
    "lopsided virial": (lambda _, a: replace(a, virial=a.virial + np.eye(3)[[1, 0, 0]]), "asymm"),
    "weights ignored in the energies": (
        lambda j, a: replace(a, energies=None if j.weight is None else a.energies),
        "energies were requested",
    ),
    "wrong site energies": (lambda _, a: replace(a, energies=2 * a.energies), "site energies"),
    "wrong dtype": (lambda _, a: replace(a, forces=a.forces.astype(np.float32)), "float64"),
    "wrong shape": (lambda _, a: replace(a, forces=a.forces[1:]), "shape"),
    "not finite": (lambda _, a: replace(a, energy=float("nan")), "energy is nan"),
    "fixed in space": (pinned, "differs by|-dE/dstrain"),
    "energies left out though wanted": (
        lambda j, a: replace(
            a, energies=a.energies if j.weight is None else np.where(j.weight == 0, 0.0, a.energies)
        ),
        "energies wanted",
    ),
    "wanted sites counted": (
        lambda j, a: a if j.wanted is None else replace(a, energy=a.energy + 1e-6),
        "energies wanted",
    ),
    "a trace of wanted sites": (
        lambda j, a: a if j.wanted is None else replace(a, energy=a.energy + 1e-30),
        "all weights are 0 but something is 1e-30",
    ),
    "values unasked": (lambda j, a: replace(a, values=np.zeros(len(j.positions))), "not requested"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_every_kind_of_wrong_answer_is_found(name: str, system: System) -> None:
    spoil, match = SPOILED[name]
    with pytest.raises(ConformanceError, match=match):
        check_engine(Spoiled(spoil), system)


def test_answers_that_depend_on_earlier_ones_are_found(system: System) -> None:
    seen: list[EngineResult] = []
    with pytest.raises(ConformanceError, match="differs by"):
        check_engine(
            Spoiled(lambda j, a: remember(j, a, seen)), system, tolerance=Tolerance(difference=10)
        )


def test_writing_into_a_job_is_found(system: System) -> None:
    def write(job: Evaluate, answer: EngineResult) -> EngineResult:
        job.positions.setflags(write=True)
        job.positions[0] += 1.0
        return answer

    with pytest.raises(ConformanceError, match="changed the arrays"):
        check_engine(Spoiled(write), system)


def test_evaluating_nan_is_found(system: System) -> None:
    class Careless(Spoiled):
        def evaluate(self, job: Evaluate) -> EngineResult:
            try:
                return super().evaluate(job)
            except BadInput:
                n = len(job.positions)
                return EngineResult(0.0, np.zeros((n, 3)), np.zeros((3, 3)), np.zeros(n))

    with pytest.raises(ConformanceError, match="NaN position"):
        check_engine(Careless(lambda _, a: a), system)


def test_miscounted_neighbours_are_found(system: System) -> None:
    def miscount(job: Evaluate, answer: EngineResult) -> EngineResult:
        return answer if answer.values is None else replace(answer, values=answer.values + 1)

    with pytest.raises(ConformanceError, match="a wrong count"):
        check_engine(Spoiled(miscount), system)


def test_results_of_structures_that_are_mistaken_for_each_other_are_found(system: System) -> None:
    def mistake(job: Evaluate, answer: EngineResult) -> EngineResult:
        return answer if answer.virials is None else replace(answer, virials=answer.virials[::-1])

    with pytest.raises(ConformanceError, match="structure 0 of several"):
        check_engine(Spoiled(mistake), system)


def test_an_engine_that_can_do_less_is_not_asked_for_more(system: System) -> None:
    def plain(job: Evaluate, answer: EngineResult) -> EngineResult:
        assert job.weight is None
        assert not job.energies
        return answer

    check_engine(Spoiled(plain, weights=False, energies=False, criteria=False), system)


def test_an_ase_structure_will_do(system: System) -> None:
    ase = pytest.importorskip("ase")
    atoms = ase.Atoms(system.numbers, system.positions, cell=system.cell, pbc=True)
    check_engine(ToyEngine(), atoms)
