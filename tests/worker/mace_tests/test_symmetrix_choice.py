"""Where symmetrix-xl cannot evaluate a model, the reason is given, and torch does it if allowed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mace_samples import MODELS, build
from mixserver_worker.engines.mace.engine import MaceEngine
from mixserver_worker.engines.mace.model import quiet
from mixserver_worker.engines.symmetrix import package, repulsion, stages
from mixserver_worker.engines.symmetrix.choice import mace_engine
from mixserver_worker.engines.symmetrix.engine import SymmetrixEngine
from mixserver_worker.engines.symmetrix.package import Unavailable
from odd_systems import agree, job, system
from symmetrix_samples import SYMMETRIX_MODELS

from mixserver.core.errors import ConfigError

pytest.importorskip("symmetrix")
pytestmark = [pytest.mark.mace, pytest.mark.symmetrix]

LOG = "mixserver.mace"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("choice")


@pytest.fixture(scope="module")
def known(folder: Path) -> str:
    """A model that symmetrix-xl knows."""
    return saved(folder / "known.model", {**SYMMETRIX_MODELS["plain"], "pair_repulsion": True})


def saved(file: Path, settings: dict[str, Any]) -> str:
    import torch

    with quiet():
        torch.save(build(**settings), file)
    return str(file)


def test_both_kernels_of_one_model_have_different_fingerprints(known: str, folder: Path) -> None:
    fast = mace_engine(known, kernels="symmetrix", device="cpu", threads=1, cache=folder)
    slow = mace_engine(known, kernels="torch", device="cpu", threads=1)
    assert isinstance(fast, SymmetrixEngine)
    assert isinstance(slow, MaceEngine)
    assert fast.card.fingerprint != slow.card.fingerprint
    assert fast.card.receptive_field == slow.card.receptive_field
    atoms = system("triclinic")
    agree(fast.evaluate(job(atoms)), slow.evaluate(job(atoms)), room=1e-6)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("two layers", "l_max = 3, this one has 2"),
        ("one layer", "two layers, this one has 1"),
    ],
)
def test_an_unknown_model(
    name: str, reason: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = saved(folder / f"{name}.model", MODELS[name])
    with pytest.raises(Unavailable, match=reason):
        mace_engine(file, kernels="symmetrix", device="cpu", threads=1, cache=folder)
    with caplog.at_level(logging.INFO, LOG):
        engine = mace_engine(file, kernels="auto", device="cpu", threads=1, cache=folder)
    assert isinstance(engine, MaceEngine)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("torch evaluates this model: ")
    assert reason in line


def test_models_that_the_converter_refuses(folder: Path) -> None:
    for number, (more, reason) in enumerate(
        (({"kind": "MACE"}, "scale and shift"), ({"then": "RealAgnosticAttResidual"}, "second"))
    ):
        file = saved(folder / f"refused-{number}.model", {**SYMMETRIX_MODELS["plain"], **more})
        with pytest.raises(Unavailable, match=reason):
            mace_engine(file, kernels="symmetrix", device="cpu", threads=1, cache=folder)


def test_another_interface(known: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_STAGES", (*package._STAGES, "compute_Z"))
    with pytest.raises(Unavailable, match=r"MACE of symmetrix-xl 0\.1\.1 lacks compute_Z"):
        mace_engine(known, kernels="symmetrix", device="cpu", threads=1, cache=folder)


def _all_ones(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, edges, weight: original(self, edges, np.ones_like(weight))


def _doubled(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, edges: 2.0 * original(self, edges)


@pytest.mark.parametrize(
    ("place", "change", "what"),
    [
        ((stages.StagedModel, "_reverse"), _all_ones, "forces of 28 atoms with weights"),
        ((stages.StagedModel, "_energies"), _doubled, "site energies"),
        ((repulsion.Repulsion, "evaluate"), _all_ones, "forces of 28 atoms with weights"),
    ],
)
def test_the_self_test_notices(
    place: tuple[type, str],
    change: Callable[..., Any],
    what: str,
    known: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an upgrade of symmetrix-xl whose stages mean something else."""
    owner, name = place
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    with pytest.raises(Unavailable, match=what):
        mace_engine(known, kernels="symmetrix", device="cpu", threads=1, cache=folder)
    with caplog.at_level(logging.INFO, LOG):
        engine = mace_engine(known, kernels="auto", device="cpu", threads=1, cache=folder)
    assert isinstance(engine, MaceEngine)
    assert "does not agree with mace" in caplog.text


def test_a_device_that_is_not_here(known: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="finds 0 CUDA"):
        mace_engine(known, kernels="auto", device="cuda", threads=1, cache=folder)


def test_without_the_package(known: str, folder: Path) -> None:
    """In a process of its own, in which it cannot be imported."""
    code = (
        "import logging, sys\n"
        "from pathlib import Path\n"
        "sys.modules['symmetrix'] = None\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from mixserver_worker.engines.symmetrix.choice import mace_engine\n"
        "for kernels in ('auto', 'symmetrix'):\n"
        "    engine = mace_engine(sys.argv[1], kernels=kernels, device='cpu', threads=1)\n"
        "    print(type(engine).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, known], capture_output=True, text=True, check=False
    )
    assert done.stdout == "MaceEngine\n"
    assert done.returncode == 1
    assert "torch evaluates this model: symmetrix-xl is not installed" in done.stderr
    assert "Unavailable: symmetrix-xl is not installed" in done.stderr


def test_the_command_line(known: str, folder: Path) -> None:
    """Until the worker looks for a server, which is not there."""
    common = ["mace", known, "--device", "cpu", "--threads", "1", "--cache", str(folder)]
    common += ["--server", "tcp://127.0.0.1:1", "--wait-s", "0.1"]
    program = "from mixserver_worker.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *common, "--kernels", "symmetrix"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is looking for tcp://127.0.0.1:1" in done.stderr, done.stderr
    assert "symmetrix" in [file.name for file in folder.iterdir()]
