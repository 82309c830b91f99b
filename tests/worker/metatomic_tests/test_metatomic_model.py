"""Models that cannot be used are refused, in words, when they are loaded."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mixserver_worker.engines.metatomic.engine import MetatomicEngine

from mixserver.core.errors import ConfigError

pytestmark = pytest.mark.metatomic

Export = Callable[..., str]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interaction_range": math.inf}, "has a long-range part"),
        ({"per_atom": False}, r"of a system only, not of its atoms.*mixserver-worker ase"),
        ({"unit": ""}, r"does not state the units .*angstrom.* energy \(none\)"),
        ({"length_unit": ""}, r"does not state the units of its lengths \(none\)"),
        ({"supported_devices": ["cuda"]}, "runs on cuda, not cpu"),
    ],
)
def test_models_that_state_something_unusable_are_refused(
    export: Export, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        MetatomicEngine(export(**change), device="cpu", threads=1)


@pytest.mark.parametrize("use", ["neighbours", "positions"])
def test_a_model_that_looks_farther_than_it_states_is_refused(export: Export, use: str) -> None:
    file = export(use=use, interaction_range=3.6)  # one of its two layers
    with pytest.raises(ConfigError, match=r"two sites differ.*interaction range of 3\.6 Å"):
        MetatomicEngine(file, device="cpu", threads=1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("use", "what"), [("detached", "forces"), ("no stress", "virial")])
def test_a_model_that_loses_a_part_of_its_gradient_is_refused(
    export: Export, use: str, what: str, dtype: str
) -> None:
    """As an extension does whose derivatives are registered in Python, if only its library is."""
    file = export(use=use, dtype=dtype)
    with pytest.raises(ConfigError, match=rf"{what} are not the gradient.*--import"):
        MetatomicEngine(file, device="cpu", threads=1)


def test_modules_that_register_extensions_are_imported_first(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_extension.py").write_text("imported = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    MetatomicEngine(export(), imports=["some_extension"], device="cpu", threads=1)
    assert sys.modules["some_extension"].imported
    with pytest.raises(ConfigError, match=r"--import no_such_extension: .*installed here"):
        MetatomicEngine(export(), imports=["no_such_extension"], device="cpu", threads=1)


def test_models_that_need_another_input_are_refused(export: Export) -> None:
    from metatomic_samples import WithCharge

    with pytest.raises(ConfigError, match="needs charge, which is not sent here"):
        MetatomicEngine(export(kind=WithCharge), device="cpu", threads=1)


def test_an_unknown_variant_is_refused(export: Export) -> None:
    with pytest.raises(ConfigError, match=r"no output 'energy/pbe'; its energies are energy\."):
        MetatomicEngine(export(), variant="pbe", device="cpu", threads=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"this is no model", "incomplete or damaged, or no exported model"),
    ],
)
def test_files_without_a_model_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "pet.pt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        MetatomicEngine(str(file), device="cpu")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_half_a_model_is_refused(tmp_path: Path, export: Export, share: float) -> None:
    whole = Path(export()).read_bytes()
    file = tmp_path / "half.pt"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConfigError, match="incomplete or damaged"):
        MetatomicEngine(str(file), device="cpu")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the model .*no-such\.pt"):
        MetatomicEngine("no-such.pt", device="cpu")


def test_a_scripted_module_of_another_kind_is_refused(tmp_path: Path) -> None:
    import warnings

    import torch

    file = tmp_path / "linear.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))
    with pytest.raises(ConfigError, match="cannot be read as a metatomic model"):
        MetatomicEngine(str(file), device="cpu")
