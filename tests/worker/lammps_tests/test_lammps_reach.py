"""Receptive fields of LAMMPS pair styles; None for unknown styles."""

from __future__ import annotations

import pytest
from mixserver_worker.engines.lammps.capabilities import receptive_field_of


@pytest.mark.parametrize(
    ("pair_style", "cutoffs"),
    [
        ("snap", 1),
        ("eam/alloy/omp", 1),
        ("hybrid/overlay zbl 4.0 4.8 snap table spline 10000 table linear 1000", 1),
        ("hybrid/overlay eam/fs zbl 1.0 2.0", 1),
        ("sw", 2),
        ("hybrid/overlay tersoff zbl 1.0 2.0", 2),
        ("mliap model linear a.coeff descriptor sna b.desc", 1),
        ("mliap unified a.pt", None),
        ("mliap model mliappy a.pt descriptor sna b.desc", None),
        ("symmetrix/mace", None),
        ("nequip", None),
        ("hybrid/overlay nequip zbl 1.0 2.0", None),
        ("lj/cut/coul/long 10.0", None),
    ],
)
def test_reach_of_a_site_energy(pair_style: str, cutoffs: int | None) -> None:
    found = receptive_field_of(pair_style.split(), 4.8)
    assert found == (None if cutoffs is None else 4.8 * cutoffs)
