"""Engines with the models of `metatomic_samples`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mixserver_worker.engines.metatomic.engine import MetatomicEngine


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("metatomic", reason="the extra metatomic is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Path of a model with what it states about itself changed."""
    from metatomic_samples import export

    folder = tmp_path_factory.mktemp("metatomic-models")
    made: dict[str, str] = {}

    def make(**change: Any) -> str:
        key = repr(sorted(change.items()))
        if key not in made:
            made[key] = export(folder / f"{len(made)}.pt", **change)
        return made[key]

    return make


@pytest.fixture(scope="session")
def engine(export: Callable[..., str]) -> Callable[..., MetatomicEngine]:
    """An engine with such a model; kept, since they are slow to make."""
    made: dict[str, MetatomicEngine] = {}

    def make(**change: Any) -> MetatomicEngine:
        file = export(**change)
        if file not in made:
            made[file] = MetatomicEngine(file, device="cpu", threads=1)
        return made[file]

    return make
