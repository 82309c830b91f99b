"""A model that is not here what it is in mace is found when it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mace_samples import MODELS, job, system

from clients.engines import mace_sites
from clients.engines.mace import MaceEngine
from mixserver.errors import ConfigError

pytestmark = pytest.mark.mace


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_kind_of_model_passes_the_trial(
    name: str, dtype: str, engine: Callable[..., MaceEngine], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mixserver.mace"):
        engine(name, dtype=dtype)
    assert not caplog.records


def test_a_fast_part_that_is_wrong_is_left_out_with_a_warning(
    model_file: Callable[[str], str],
    engine: Callable[..., MaceEngine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after an upgrade of mace that puts the same parts together in another way."""
    right = engine("two layers").evaluate(job(system("triclinic")))
    true = mace_sites.ElementContraction.__call__

    def doubled(self: Any, *arguments: Any) -> Any:
        return 2.0 * true(self, *arguments)

    monkeypatch.setattr(mace_sites.ElementContraction, "__call__", doubled)
    with caplog.at_level(logging.WARNING, "mixserver.mace"):
        made = MaceEngine(model_file("two layers"), device="cpu", threads=1)
    assert "mace's own parts" in caplog.text
    answer = made.evaluate(job(system("triclinic")))
    np.testing.assert_allclose(answer.forces, right.forces, atol=1e-9)


def test_a_walk_through_the_layers_that_is_wrong_is_refused(
    model_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = mace_sites.SiteModel._interaction_energies

    def shifted(self: Any, *arguments: Any) -> Any:
        return 1.001 * true(self, *arguments)

    monkeypatch.setattr(mace_sites.SiteModel, "_interaction_energies", shifted)
    with pytest.raises(ConfigError, match=r"site energies of eight atoms differ.*0\.3\.16"):
        MaceEngine(model_file("two layers"), device="cpu", threads=1)
