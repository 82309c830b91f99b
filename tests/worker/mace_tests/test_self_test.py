"""A model whose results differ from mace's own is noticed when it is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mace_samples import MODELS
from mixserver_worker.engines.mace.engine import MaceEngine
from odd_systems import agree, job, system

from mixserver.core.errors import ConfigError

pytestmark = pytest.mark.mace

KERNELS = {
    "contraction": ("contraction.ElementContraction", "__call__"),
    "convolution": ("convolution.Convolution", "forward"),
    "skip connection": ("elements.ElementLinear", "forward"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_kind_of_model_passes(
    name: str, dtype: str, engine: Callable[..., MaceEngine], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mixserver.mace"):
        engine(name, dtype=dtype)
    assert not caplog.records


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_that_passes_its_own_check_but_is_wrong_is_not_used(
    kernel: str,
    model_file: Callable[[str], str],
    engine: Callable[..., MaceEngine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an upgrade of mace that combines the same modules in another way."""
    from mixserver_worker.engines.mace import site_energies

    expected = engine("two layers").evaluate(job(system("triclinic")))
    path, method = KERNELS[kernel]
    target = f"mixserver_worker.engines.mace.kernels.{path}"
    original = getattr(getattr(site_energies, path.split(".")[1]), method)

    def doubled(self: Any, *arguments: Any) -> Any:
        return 2.0 * original(self, *arguments)

    monkeypatch.setattr(f"{target}.{method}", doubled)
    if kernel != "contraction":  # the contraction compares the function that it calls
        monkeypatch.setattr(f"{target}.compare", lambda *_: None)
    with caplog.at_level(logging.WARNING, "mixserver.mace"):
        made = MaceEngine(model_file("two layers"), device="cpu", threads=1)
    assert "evaluated with mace's own modules" in caplog.text
    answer = made.evaluate(job(system("triclinic")))
    np.testing.assert_allclose(answer.forces, expected.forces, atol=1e-9)


MISSING = {
    "contraction": "contractions",
    "convolution": "irreps_in2",
    "skip connection": "weight_view_for_instruction",
}


@pytest.mark.parametrize("kernel", MISSING)
def test_with_a_mace_that_changed_its_internals_its_own_module_is_used(
    kernel: str,
    model_file: Callable[[str], str],
    engine: Callable[..., MaceEngine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Attributes of mace and e3nn that a kernel reads have other names."""
    expected = engine("two layers").evaluate(job(system("triclinic")))

    class Changed:
        """The module without one of its attributes."""

        def __init__(self, module: Any) -> None:
            self.module = module

        def __getattr__(self, name: str) -> Any:
            if name == MISSING[kernel]:
                raise AttributeError(name)
            return getattr(self.module, name)

    from mixserver_worker.engines.mace import site_energies

    path, _ = KERNELS[kernel]
    kernel_class = getattr(site_energies, path.split(".")[1])
    original = kernel_class.__init__

    def with_changed(self: Any, module: Any, *arguments: Any) -> None:
        same_name = type(type(module).__name__, (Changed,), {})
        original(self, same_name(module), *arguments)

    monkeypatch.setattr(kernel_class, "__init__", with_changed)
    with caplog.at_level(logging.WARNING, "mixserver.mace"):
        made = MaceEngine(model_file("two layers"), device="cpu", threads=1)
    assert f"mace's own {kernel} is used" in caplog.text
    assert "evaluated with mace's own modules" not in caplog.text  # the other kernels are kept
    agree(made.evaluate(job(system("triclinic"))), expected)


def test_an_evaluation_of_the_layers_that_is_wrong_is_refused(
    model_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixserver_worker.engines.mace import site_energies

    original = site_energies.MaceSites.site_energies

    def shifted(self: Any, *arguments: Any) -> Any:
        return 1.001 * original(self, *arguments)

    monkeypatch.setattr(site_energies.MaceSites, "site_energies", shifted)
    with pytest.raises(ConfigError, match=r"site energies of eight atoms differ.*0\.3\.16"):
        MaceEngine(model_file("two layers"), device="cpu", threads=1)


def test_a_mace_that_cannot_evaluate_itself_is_refused(
    model_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise AttributeError("no such attribute")

    monkeypatch.setattr("mixserver_worker.engines.mace.self_test.reference_result", broken)
    with pytest.raises(ConfigError, match=r"mace's own evaluation fails, .*0\.3\.16"):
        MaceEngine(model_file("two layers"), device="cpu", threads=1)
