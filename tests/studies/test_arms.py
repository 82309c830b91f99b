"""The cases of a study's arms, the models of models.toml, and what is refused before a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from mixserver.config import Case, load_case
from mixserver.core.errors import ConfigError
from mixserver.studies.arms import Arm, Kind, check_arm, write_case
from mixserver.studies.models import fingerprints, study_workers

INPUTS = Path(__file__).parents[2] / "inputs"


@pytest.fixture
def base(tmp_path: Path) -> Case:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("mix.toml", "input.xml", "init.xyz"):
        shutil.copy(INPUTS / "minimal" / name, folder)
    return load_case(folder)


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("all-expensive", ["expensive"]),
        ("all-cheap", ["cheap"]),
        ("energy", ["cheap", "expensive"]),
        ("force", ["cheap", "expensive"]),
    ],
)
def test_an_arm_has_the_models_of_its_kind(
    base: Case, tmp_path: Path, kind: Kind, roles: list[str]
) -> None:
    changes = {"region": {"core_radius": 3.0}, "limits": {"force": 50.0}}
    workers = study_workers(base.folder, base.config.local, base.folder)
    values = {"seed": "9", "total_steps": "5"}
    case = write_case(tmp_path / kind, base, Arm(kind, changes=changes), workers, values)
    check_arm(case)
    config = case.config
    assert [one.role for one in config.local] == roles
    assert [one.command for one in config.local] == [
        one.command for one in base.config.local if one.role in roles
    ]
    assert config.limits.force == 50.0
    assert (config.region is None) == kind.startswith("all")
    if config.region is not None:
        assert config.region.core_radius == 3.0
        assert config.region.blend_width == 3.0
        assert config.mixing.kind == kind
    text = (case.folder / "input.xml").read_text()
    assert "<seed> 9 </seed>" in text
    assert "<total_steps> 5 </total_steps>" in text
    assert str(base.folder / "init.xyz") in text


def test_an_arm_records_what_it_asks_for_and_not_what_the_case_does(
    base: Case, tmp_path: Path
) -> None:
    with (base.folder / "mix.toml").open("a") as file:
        file.write("\n[record]\nregions_every = 7\n")
    base = load_case(base.folder)
    quiet = write_case(tmp_path / "quiet", base, Arm("force"), base.config.local)
    assert quiet.config.record.regions_every == 0
    arm = Arm("force", changes={"record": {"regions_every": 5}})
    told = write_case(tmp_path / "told", base, arm, base.config.local)
    assert told.config.record.regions_every == 5


def test_a_cell_too_small_for_its_region_is_refused(base: Case, tmp_path: Path) -> None:
    arm = Arm("energy", changes={"region": {"core_radius": 12.0}})
    case = write_case(tmp_path / "arm", base, arm, base.config.local)
    with pytest.raises(ConfigError, match=r"meet its own image.*larger cell or smaller radii"):
        check_arm(case)


def test_a_line_of_seeds_may_span_the_cell(base: Case, tmp_path: Path) -> None:
    structure = read(base.structure, format="xyz")
    along = np.flatnonzero((np.abs(structure.positions[:, 1:]) < 0.5).all(axis=1)).tolist()
    assert len(along) > 2
    seeds = {"kind": "atoms", "indices": along}
    arm = Arm("energy", changes={"region": {"core_radius": 12.0, "seeds": seeds}})
    case = write_case(tmp_path / "arm", base, arm, base.config.local)
    with pytest.raises(ConfigError, match=r"high along b, .*meet its own image"):
        check_arm(case)


def test_settings_that_contradict_each_other_are_refused(base: Case, tmp_path: Path) -> None:
    arm = Arm("energy", changes={"region": {"core_radios": 12.0}})
    with pytest.raises(ConfigError, match="core_radius"):
        write_case(tmp_path / "arm", base, arm, base.config.local)


def test_a_value_without_its_element_is_refused(base: Case, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one <timesteps>.*has 0"):
        write_case(tmp_path / "arm", base, Arm("energy"), base.config.local, {"timesteps": "1"})


def test_models_toml_replaces_a_model(base: Case) -> None:
    before = study_workers(base.folder, base.config.local, base.folder)
    (base.folder / "own.model").write_text("1")
    (base.folder / "models.toml").write_text(
        '[expensive]\ncommand = ["mace", "own.model", "--device", "cuda"]\nthreads = 4\n'
    )
    cheap, expensive = study_workers(base.folder, base.config.local, base.folder)
    assert cheap == before[0]
    own = str(base.folder / "own.model")
    assert expensive.command == ("mace", own, "--device", "cuda")
    assert expensive.threads == 4
    first = fingerprints([cheap, expensive])
    (base.folder / "own.model").write_text("2")
    second = fingerprints([cheap, expensive])
    assert first["cheap"] == second["cheap"]
    assert first["expensive"] != second["expensive"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[expensive]\ncommand = ["mace", "none.model"]\n', "there is no file .*none.model"),
        ('[expensiv]\ncommand = ["mace", "a"]\n', "expensive"),
        ('[cheap]\ncommand = "lammps"\n', "command"),
        ("[cheap\n", "not valid TOML"),
    ],
)
def test_a_wrong_models_toml_is_told_in_words(base: Case, text: str, words: str) -> None:
    (base.folder / "models.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        study_workers(base.folder, base.config.local, base.folder)


@pytest.mark.lammps
def test_a_model_without_the_element_is_refused(base: Case, tmp_path: Path) -> None:
    potential = INPUTS / "silicon_distill/potential/si.in"
    (base.folder / "models.toml").write_text(f'[cheap]\ncommand = ["lammps", "{potential}"]\n')
    workers = study_workers(base.folder, base.config.local, base.folder)
    case = write_case(tmp_path / "arm", base, Arm("energy"), workers)
    with pytest.raises(ConfigError, match=r"knows Si, and the structure has Ar"):
        check_arm(case)
