"""A larger case has the region of the first copy, and whatever would grow is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixserver.analysis.bench.replicate import enlarge, mace_model
from mixserver.config import Case, load_case
from mixserver.config.region_schema import AtomSeeds, CriterionSeeds, SlabSeeds
from mixserver.core.errors import ConfigError
from mixserver.server.reference.structure import read_reference

INPUTS = Path(__file__).parents[3] / "inputs"


def with_seeds(case: Case, seeds: object) -> Case:
    region = msgspec.structs.replace(case.config.region, seeds=seeds)
    return replace(case, config=msgspec.structs.replace(case.config, region=region))


@pytest.mark.parametrize(("name", "atoms"), [("silicon_nve", 1000), ("w_he", 3000)])
def test_a_larger_case_repeats_the_structure_and_keeps_one_region(
    tmp_path: Path, name: str, atoms: int
) -> None:
    case = load_case(INPUTS / name)
    topology, frame = read_reference(case)
    larger = enlarge(case, atoms, tmp_path)
    count = len(larger.workload.positions)
    assert count == len(frame) * np.prod(larger.repeats)
    assert count == pytest.approx(atoms, rel=0.3)
    first = larger.workload.positions[: len(frame)]
    np.testing.assert_allclose(first, frame.positions, atol=1e-9)
    assert isinstance(larger.seeds, AtomSeeds)
    if name == "w_he":
        assert topology.numbers[list(larger.seeds.indices)].tolist() == [2]

    config = larger.mixed(core_radius=3.0, connections=4)
    assert config.region is not None
    assert (config.region.core_radius, config.upstream.connections) == (3.0, 4)
    again, positions = read_reference(Case(tmp_path, tmp_path / "mix.toml", config))
    assert np.array_equal(again.numbers, larger.workload.numbers)
    np.testing.assert_allclose(positions.positions, larger.workload.positions, atol=1e-7)


def test_commands_of_workers_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    larger = enlarge(load_case(INPUTS / "silicon_nve"), 64, tmp_path)
    cheap, expensive = larger.workers()
    assert cheap.command == ("lammps", str(INPUTS / "silicon_distill/potential/si.in"))
    model = INPUTS / "silicon_vacancy/model/si_mace.model"
    assert mace_model([expensive], tmp_path) == (model, "float64")
    assert mace_model([cheap], tmp_path) is None


def test_seeds_that_would_grow_are_refused(tmp_path: Path) -> None:
    case = load_case(INPUTS / "silicon_nve")
    initial = CriterionSeeds(compute="coord/atom cutoff 2.8", initial=(3, 5))
    assert enlarge(with_seeds(case, initial), 64, tmp_path).seeds == AtomSeeds(indices=(3, 5))
    for seeds in (SlabSeeds(axis="a", low=0.1, high=0.2), CriterionSeeds(compute="coord/atom")):
        with pytest.raises(ConfigError, match="would grow with the structure"):
            enlarge(with_seeds(case, seeds), 64, tmp_path)


def test_a_case_without_a_region_or_without_workers_is_refused(tmp_path: Path) -> None:
    case = load_case(INPUTS / "silicon_nve")
    alone = replace(case, config=msgspec.structs.replace(case.config, region=None))
    with pytest.raises(ConfigError, match="nothing mixed"):
        enlarge(alone, 64, tmp_path)
    with pytest.raises(ConfigError, match="no \\[\\[local\\]\\] worker with role = 'cheap'"):
        enlarge(case.without_local_workers(), 64, tmp_path)
