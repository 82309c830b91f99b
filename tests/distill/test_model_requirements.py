"""What a model's card says against a recipe."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from argon import project_in

from mixserver.core.errors import ConfigError
from mixserver.distill.config.model_requirements import check_model, missing_site_weights
from mixserver.wire.worker import ModelCard

CARD = ModelCard(
    engine="toy", name="toy", fingerprint="0", species=(18,), weights=True, receptive_field=5.0
)


def test_elements_the_model_does_not_know_are_said(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    check_model(project, CARD)
    check_model(project, msgspec.structs.replace(CARD, species=None))
    with pytest.raises(
        ConfigError, match=r"ar.xyz has Ar, which toy does not know \(it knows He\)"
    ):
        check_model(project, msgspec.structs.replace(CARD, species=(2,)))


@pytest.mark.parametrize(
    ("hard", "fits"),
    [
        ("", False),
        ("lattice = false", False),
        ("elastic = false", False),
        ('form = "tolerance"', True),
        ("lattice = false\nelastic = false", True),
    ],
)
def test_exact_constraints_need_double_precision(hard: str, fits: bool, tmp_path: Path) -> None:
    project = project_in(tmp_path, more=f"[hard]\n{hard}\n")
    check_model(project, CARD)
    coarse = msgspec.structs.replace(CARD, dtype="float32")
    if fits:
        check_model(project, coarse)
        return
    with pytest.raises(ConfigError, match=r"computes in float32.*--dtype.*tolerance"):
        check_model(project, coarse)


def test_what_is_lost_without_weights_is_said_with_the_reason(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    mute = msgspec.structs.replace(CARD, weights=False, no_weights="it has no site energies")
    assert "(it has no site energies)" in missing_site_weights(project, mute)
    assert not missing_site_weights(project, CARD)
    project = project_in(tmp_path, more="[partition]\nregions = 0\ngroups = 1\n")
    assert not missing_site_weights(project, mute)
