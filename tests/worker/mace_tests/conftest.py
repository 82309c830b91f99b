"""Engines with the models of `mace_samples`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mace_samples import MODELS, build
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.mace.model import quiet


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("mace.__version__")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Path of one of MODELS, made when first asked for."""
    folder = tmp_path_factory.mktemp("mace-models")

    def path(name: str) -> str:
        file = folder / f"{name.replace(' ', '-')}.model"
        if not file.exists():
            import torch

            with quiet():
                torch.save(build(**MODELS[name]), file)
        return str(file)

    return path


@pytest.fixture(scope="session")
def engine(model_file: Callable[[str], str]) -> Callable[..., MaceEngine]:
    """An engine with one of MODELS; kept, since they are slow to make."""
    made: dict[tuple[Any, ...], MaceEngine] = {}

    def make(name: str, **settings: Any) -> MaceEngine:
        if name == "two heads":
            settings.setdefault("head", "coupled cluster")
        key = (name, *sorted(settings.items()))
        if key not in made:
            settings = {"device": "cpu", "threads": 1} | settings
            made[key] = MaceEngine(model_file(name), **settings)
        return made[key]

    return make


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Trained models beside the checkout, where there are any."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "models"
    if not (folder / "si_mace.model").is_file():
        pytest.skip("no trained models beside this checkout")
    return folder
