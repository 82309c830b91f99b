"""What cannot be fitted is said by a whole distillation that got so far; what is recommended."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from argon import project_in
from hypothesis import given
from hypothesis import strategies as st
from made_results import candidate

from mixserver.core.errors import ConfigError
from mixserver.distill.config.load import load_project
from mixserver.distill.data.labels import load_labels
from mixserver.distill.pipeline import distill, recommended
from mixserver.distill.results import Candidate, Errors, Ghost


@pytest.fixture
def copy(argon_asked: Path, tmp_path: Path) -> Path:
    shutil.copytree(argon_asked, tmp_path / "copy")
    return tmp_path / "copy"


async def refusal(folder: Path, more: str) -> str:
    """What a distillation with these settings says."""
    with (folder / "distill.toml").open("a") as file:
        file.write(more)
    project = load_project(folder)
    told: list[str] = []
    with pytest.raises(ConfigError) as error:
        await distill(project, lambda step, *_: told.append(step))
    assert told[-1] == "fit"  # so far it got
    assert not (project.folder / "ar.in").exists()
    return str(error.value)


@pytest.mark.lammps
async def test_structures_that_do_not_determine_the_coefficients(copy: Path) -> None:
    said = await refusal(
        copy, "functions = 80\n[potential]\ntwojmax = 2\n[fit]\nridge = 0\nsmooth = 0\n"
    )
    assert "do not determine all coefficients" in said
    assert "fit.ridge" in said


@pytest.mark.lammps
async def test_constraints_that_leave_nothing(copy: Path) -> None:
    said = await refusal(copy, "functions = 0\n[potential]\ntwojmax = 1\n")
    assert "independent constraints leave nothing" in said
    assert "potential.twojmax" in said


@pytest.mark.lammps
async def test_constraints_that_contradict_each_other(copy: Path) -> None:
    """As if the model had another shear modulus in one plane, which no cubic crystal has."""
    file = copy / "distilled/hard/hard-xy+1.npz"
    labelled = load_labels(file)
    virial = labelled.virial.copy()
    virial[:, 0, 1] += 0.05
    virial[:, 1, 0] += 0.05
    replace(labelled, virial=virial).save(file)
    said = await refusal(copy, "functions = 12\n[potential]\ntwojmax = 2\n")
    assert "the constraints contradict each other" in said
    assert "elastic xy" in said
    assert "hard.form = 'tolerance'" in said


@pytest.mark.lammps
async def test_labels_that_are_not_numbers_name_their_structure(copy: Path) -> None:
    name = "30K-0-000040"
    file = copy / f"distilled/soft/{name}.npz"
    labelled = load_labels(file)
    forces = labelled.forces.copy()
    forces[0, 3, 1] = np.nan
    replace(labelled, forces=forces).save(file)
    said = await refusal(copy, "functions = 12\n[potential]\ntwojmax = 2\n")
    assert name in said
    assert "not finite" in said


async def test_a_reference_that_cannot_be_laid_over_is_said_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    (tmp_path / "core.in").write_text("variable z equal 18\npair_style zbl 2 3\n")
    project = project_in(tmp_path, more='[potential]\nreference = "core.in"\n')
    with pytest.raises(ConfigError, match="variable z equal 18"):
        await distill(project, lambda *_: None)
    assert not project.folder.exists()


def point(label: str, cost: float | None, error: float, ghost: float | None) -> Candidate:
    ghosts = () if ghost is None else (Ghost(core=6.0, blend=4.0, largest=ghost, rms=ghost),)
    errors = (Errors(of="hot 600 K", energy=0.0, forces=error, virial=0.0),)
    return msgspec.structs.replace(
        candidate(label), microseconds=cost, errors=errors, ghosts=ghosts
    )


def test_the_least_product_of_cost_and_error_is_recommended() -> None:
    swept = [point("a", 10.0, 0.1, 0.01), point("b", 30.0, 0.02, 0.01), point("c", 50.0, 0.02, 0.0)]
    assert recommended(swept) == "b"
    loud = point("loud", 1.0, 0.01, 0.3)
    assert recommended([loud, *swept]) == "b"
    assert recommended([loud]) == "loud"  # if there is none that is quiet
    assert recommended([*swept, point("unknown", None, 0.001, 0.0)]) == "b"
    assert not recommended([])


@given(st.lists(st.tuples(st.floats(1.0, 1e3), st.floats(1e-4, 1.0)), min_size=1, max_size=6))
def test_nobody_is_cheaper_and_better_than_who_is_recommended(
    values: list[tuple[float, float]],
) -> None:
    swept = [point(str(at), cost, error, 0.0) for at, (cost, error) in enumerate(values)]
    cost, error = values[int(recommended(swept))]
    assert not any(c < cost and e < error for c, e in values)
    best = swept[int(recommended(swept))]
    gone = msgspec.structs.replace(best, bulk=None, trouble="no crystal")
    others = [one for one in swept if one is not best]
    assert recommended([gone, *others]) == recommended(others)
