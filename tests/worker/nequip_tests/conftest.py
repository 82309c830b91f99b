"""Engines with the packages of this folder, and packages changed in one thing."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mixserver_worker.engines.nequip.engine import NequipEngine
from mixserver_worker.engines.nequip.package import quiet

PACKAGES = Path(__file__).parent / "packages"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("opt_einsum_fx", reason="the extra nequip is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def engine() -> Callable[..., NequipEngine]:
    """An engine with one of the packages; kept, since they are slow to make."""
    made: dict[tuple[Any, ...], NequipEngine] = {}

    def make(name: str, **settings: Any) -> NequipEngine:
        key = (name, *sorted(settings.items()))
        if key not in made:
            file = PACKAGES / f"{name}.nequip.zip"
            made[key] = NequipEngine(str(file), device="cpu", threads=1, **settings)
        return made[key]

    return make


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., str]:
    """Path of a package whose model was changed and packaged again."""
    from torch.package.importer import sys_importer
    from torch.package.package_exporter import PackageExporter
    from torch.package.package_importer import PackageImporter

    def make(name: str, change: Callable[[Any], None]) -> str:
        source = PackageImporter(io.BytesIO((PACKAGES / f"{name}.nequip.zip").read_bytes()))
        target = tmp_path / "changed.nequip.zip"
        with quiet():
            models = source.load_pickle("model", "eager_model.pkl")
            change(models["sole_model"])
            with PackageExporter(target, importer=(source, sys_importer)) as exporter:
                for outside in ("numpy", "opt_einsum_fx", "packaging", "io", "sys", "triton"):
                    exporter.extern(f"{outside}.**")
                exporter.mock("matplotlib.**")
                exporter.intern(["nequip.**", "e3nn.**", "allegro.**", "nequip_ewald.**"])
                exporter.save_pickle("model", "eager_model.pkl", models)
        return str(target)

    return make
