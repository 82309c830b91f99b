"""One set of constants, and it is i-PI's."""

import ase.units
import pytest
from ipi.utils.units import unit_to_internal

from mixserver.core import units


def test_the_constants_are_those_of_ipi() -> None:
    assert unit_to_internal("length", "angstrom", 1.0) == units.ANGSTROM
    assert unit_to_internal("energy", "electronvolt", 1.0) == units.ELECTRONVOLT


def test_there_and_back_is_the_identity() -> None:
    assert units.ANGSTROM * units.BOHR == pytest.approx(1.0, abs=1e-15)
    assert units.ELECTRONVOLT * units.HARTREE == pytest.approx(1.0, abs=1e-15)
    assert units.EV_PER_ANGSTROM * units.HARTREE_PER_BOHR == pytest.approx(1.0, abs=1e-15)


def test_they_differ_from_codata_by_what_is_documented() -> None:
    assert units.BOHR == pytest.approx(ase.units.Bohr, rel=2e-8)
    assert units.HARTREE == pytest.approx(ase.units.Hartree, rel=1.1e-7)
