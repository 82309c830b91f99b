"""The masses with which temperatures by region are measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mixserver.config import load_case
from mixserver.ipi.dynamics import read_dynamics
from mixserver.server.records.thermometer import RegionThermometer
from mixserver.server.thermometry import region_thermometer

INPUTS = Path(__file__).parents[2] / "inputs"
MASSES = "<masses mode='manual' units='dalton'> [ {} ] </masses>"


def _thermometer(folder: Path) -> RegionThermometer | None:
    source = folder / "input.xml"
    return region_thermometer(load_case(folder), source, read_dynamics(source))


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return Path(shutil.copytree(INPUTS / "minimal", tmp_path / "case", ignore=lambda *_: {"runs"}))


def test_masses_are_those_of_i_pi(case: Path) -> None:
    usual = _thermometer(case)
    own = [39.948 * (1 + at % 2) for at in range(256)]
    text = (case / "input.xml").read_text()
    place = "</initialize>"
    given = MASSES.format(", ".join(map(str, own)))
    (case / "input.xml").write_text(text.replace(place, given + place))
    heavy = _thermometer(case)
    assert usual is not None
    assert heavy is not None
    assert heavy._scale[:4] / usual._scale[:4] == pytest.approx([1.0, 2.0, 1.0, 2.0], rel=1e-4)


def test_there_is_none_where_steps_have_several_beads(case: Path) -> None:
    text = (case / "input.xml").read_text()
    (case / "input.xml").write_text(text.replace("nbeads='1'", "nbeads='4'"))
    assert _thermometer(case) is None
