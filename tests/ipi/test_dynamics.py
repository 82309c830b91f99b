"""How an input or RESTART integrates, as i-PI means it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.ipi.dynamics import read_dynamics

INPUTS = Path(__file__).parents[2] / "inputs"


def test_the_cases_are_read() -> None:
    found = read_dynamics(INPUTS / "minimal/input.xml")
    assert (found.ensemble, found.thermostat, found.beads) == ("nvt", "langevin", 1)
    assert found.timestep_fs == pytest.approx(5.0)
    assert found.temperature == pytest.approx(40.0)
    assert found.steps_evaluated_once
    nve = read_dynamics(INPUTS / "silicon_nve/input.xml")
    assert (nve.ensemble, nve.temperature) == ("nve", None)
    pimd = read_dynamics(INPUTS / "silicon_pimd/input.xml")
    assert pimd.beads > 1
    assert not pimd.steps_evaluated_once
    neb = read_dynamics(INPUTS / "silicon_vacancy_neb/input.xml")
    assert (neb.ensemble, neb.timestep_fs) == ("neb", None)


def test_a_restart_is_read_in_atomic_units(tmp_path: Path) -> None:
    text = (INPUTS / "minimal/input.xml").read_text()
    text = text.replace(
        "<timestep units='femtosecond'> 5.0", "<nmts> [ 1 ] </nmts><timestep> 41.341"
    )
    file = tmp_path / "RESTART"
    file.write_text(text.replace("<temperature units='kelvin'> 40", "<temperature> 3.1668e-04"))
    found = read_dynamics(file)
    assert found.timestep_fs == pytest.approx(1.0, rel=1e-4)
    assert found.temperature == pytest.approx(100.0, rel=1e-4)
    assert found.steps_evaluated_once
    file.write_text(text.replace("[ 1 ]", "[ 4 ]"))
    assert not read_dynamics(file).steps_evaluated_once


def test_a_unit_that_ipi_does_not_know_is_said(tmp_path: Path) -> None:
    text = (INPUTS / "minimal/input.xml").read_text()
    (tmp_path / "input.xml").write_text(text.replace("femtosecond'> 5.0", "fortnight'> 5.0"))
    with pytest.raises(ConfigError, match="timestep units='fortnight'"):
        read_dynamics(tmp_path / "input.xml")
