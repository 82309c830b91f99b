"""The base of torch engines with a model small enough to be checked by hand."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mixserver_worker.conformance import System, check_engine
from mixserver_worker.engines.torch.engine import TorchEngine
from mixserver_worker.engines.torch.setup import model_card, set_up
from mixserver_worker.memory import BoundedEngine, OutOfMemory
from odd_systems import CASES, job, system

from mixserver.core.errors import ConfigError, WorkerFault

if find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

CUTOFF = 3.6


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Pairs:
    """e_i = sum_j (1 - r_ij / c)^3, then a layer that sums the neighbours' values."""

    cutoff, layers, species = CUTOFF, 2, (1, 6, 14)

    def __init__(self, isolated: Mapping[int, float], change: Callable[[Any], Any]) -> None:
        self.isolated, self.change = isolated, change

    def prepare(self, graph: Any, numbers: Any) -> Any:
        import torch

        return numbers.to(torch.get_default_dtype())

    def site_energies(self, prepared: Any, edges: Any) -> Any:
        near = (1.0 - edges.vectors.norm(dim=1) / self.cutoff) ** 3
        features = 0.01 * prepared.to(near.dtype)
        for layer in range(self.layers):
            part = edges.prefix(layer)
            sender, receiver = edges.ends[:, : part.edges]
            summed = near.new_zeros(part.receivers)
            summed = summed.index_add(0, receiver, near[: part.edges] * features[sender])
            features = features[: part.receivers] + summed
        return self.change(features)


def engine(
    isolated: Mapping[int, float] | None = None,
    change: Callable[[Any], Any] = lambda x: x,
    dtype: Any = None,
) -> TorchEngine:
    import torch

    where = set_up("cpu", 1, 0.3, "mace")
    model = Pairs(isolated or {}, change)
    card = model_card("pairs", "pairs", model, dtype or torch.float64, "pairs")
    return TorchEngine(model, card, where)


@pytest.mark.parametrize("case", CASES)
def test_conforms_in_every_cell(case: str) -> None:
    check_engine(engine(), system(case))


def test_energies_of_isolated_atoms_keep_their_digits_in_single_precision() -> None:
    import torch

    atoms = system("free")
    isolated = {1: -13.6, 6: -1030.567, 14: -7881.123456}
    without = engine(dtype=torch.float32).evaluate(job(atoms))
    answer = engine(isolated, dtype=torch.float32).evaluate(job(atoms))
    assert answer.energies is not None
    assert without.energies is not None
    expected = without.energies + [isolated[int(z)] for z in atoms.numbers]
    np.testing.assert_allclose(answer.energies, expected, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(answer.forces, without.forces)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda energies: energies.detach(), "do not depend on the edges"),
        (lambda energies: energies[:, None], r"shape \(10, 1\) for 10 sites"),
        (lambda energies: energies.sum(), r"shape \(\) for 10 sites"),
        (lambda energies: energies * float("nan"), "not finite"),
    ],
)
def test_a_model_without_forces_is_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(WorkerFault, match=message):
        engine(change=change).evaluate(job(system("triclinic")))


def test_an_atom_alone_needs_no_gradient() -> None:
    alone = System(np.zeros((1, 3)), np.array([6], np.int32), np.eye(3), (False,) * 3)
    answer = engine({6: -1030.0}, lambda energies: energies.detach()).evaluate(job(alone))
    assert answer.energy == pytest.approx(-1030.0 + 0.06)
    assert not answer.forces.any()


@pytest.mark.parametrize("skin", [-0.1, float("nan"), float("inf")])
def test_a_skin_that_is_none_is_refused(skin: float) -> None:
    with pytest.raises(ConfigError, match="skin must be 0 Å or more"):
        set_up("cpu", 1, skin, "mace")


def test_a_job_for_which_torch_finds_no_memory_is_evaluated_in_parts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch

    class Hungry(Pairs):
        """Takes 4 MB a site."""

        def site_energies(self, prepared: Any, edges: Any) -> Any:
            energies = super().site_energies(prepared, edges)
            return energies[:, None].repeat(1, 1 << 19).mean(dim=1)

    model = Hungry({}, lambda x: x)
    card = model_card("pairs", "pairs", model, torch.float64, "pairs")
    hungry = TorchEngine(model, card, set_up("cpu", 1, 0.3, "mace"))
    many = System(
        np.random.default_rng(0).uniform(0.0, 15.0, (200, 3)),
        np.full(200, 14, np.int32),
        15.0 * np.eye(3),
        (True, True, True),
    )
    hungry.evaluate(job(system("free")))
    wanted = engine().evaluate(job(many))
    gc.collect()  # what is freed from now on counts as room
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (250 << 20), hard))
    try:
        with pytest.raises(OutOfMemory, match="out of memory in job"):
            hungry.evaluate(job(many))
        answer = BoundedEngine(hungry).evaluate(job(many))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert "Jobs are evaluated in parts of" in caplog.text
    np.testing.assert_allclose(answer.forces, wanted.forces, atol=1e-9)
    assert answer.energy == pytest.approx(wanted.energy)
