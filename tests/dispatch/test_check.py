"""A result is held against its question before anybody mixes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.dispatch.check import fault
from mixserver.wire.worker import Evaluate, Result

N = 5


def question(**changes: object) -> Evaluate:
    fields = {
        "job": 1,
        "stream": 0,
        "positions": np.zeros((N, 3)),
        "numbers": np.ones(N, np.int32),
        "cell": np.eye(3),
        "pbc": (True, True, True),
    }
    return Evaluate(**{**fields, **changes})  # type: ignore[arg-type]


def answer(**changes: object) -> Result:
    fields = {"job": 1, "energy": -1.0, "forces": np.ones((N, 3)), "virial": np.eye(3)}
    return Result(**{**fields, **changes})  # type: ignore[arg-type]


def spoilt(shape: tuple[int, ...], atom: int, value: float) -> np.ndarray:
    array = np.ones(shape)
    array[atom] = value
    return array


def test_a_full_answer_has_no_fault() -> None:
    asked = question(energies=True, criterion="coord/atom cutoff 2.9")
    energies = np.full(N, -1.0 / N)
    assert fault(asked, answer(energies=energies, values=np.zeros(N))) == ""


def test_an_energy_that_is_not_the_sum_of_its_site_energies() -> None:
    asked = question(energies=True)
    said = fault(asked, answer(energy=-14.0, energies=np.full(N, -3.0)))
    assert "-14 eV" in said
    assert "5 site energies add up to -15 eV" in said


def test_where_sites_are_weighted_the_rest_may_be_left_out() -> None:
    asked = question(energies=True, weight=np.linspace(0.0, 1.0, N))
    assert fault(asked, answer(energies=np.zeros(N))) == ""


@given(
    st.integers(1, 20_000),
    st.floats(-1e5, 1e3).filter(lambda mean: abs(mean) > 1e-3),
    st.integers(0, 2**32),
)
def test_models_that_add_up_in_single_precision_are_in_order(
    n: int, mean: float, seed: int
) -> None:
    energies = np.random.default_rng(seed).normal(mean, 0.3, n).astype(np.float32)
    one_by_one = float(np.add.accumulate(energies)[-1])
    asked = Evaluate(
        job=1,
        stream=0,
        positions=np.zeros((n, 3)),
        numbers=np.ones(n, np.int32),
        cell=np.eye(3),
        pbc=(True, True, True),
        energies=True,
    )
    for total in (float(energies.sum()), float(energies.sum(dtype=np.float64)), one_by_one):
        came = Result(
            job=1,
            energy=total,
            forces=np.zeros((n, 3)),
            virial=np.eye(3),
            energies=energies.astype(np.float64),
        )
        assert fault(asked, came) == ""


def test_an_answer_may_say_more_than_was_asked() -> None:
    assert fault(question(), answer(energies=np.zeros(N), extras="{}")) == ""


@pytest.mark.parametrize(
    ("asked", "came", "words"),
    [
        ({}, {"forces": np.ones((N - 1, 3))}, ["4 atoms", "sent 5"]),
        ({}, {"energy": float("nan")}, ["energy", "nan"]),
        ({}, {"energy": float("inf")}, ["energy", "inf"]),
        ({"energies": True}, {}, ["site energies"]),
        ({"criterion": "cna/atom 3.8"}, {}, ["cna/atom 3.8"]),
        ({}, {"virial": spoilt((3, 3), 1, np.nan)}, ["virial"]),
        ({}, {"energies": spoilt((N,), 2, np.inf)}, ["1 site energies", "atom 2"]),
        ({}, {"values": spoilt((N,), 4, np.nan)}, ["1 criterion values", "atom 4"]),
    ],
)
def test_every_fault_is_named(
    asked: dict[str, object], came: dict[str, object], words: list[str]
) -> None:
    said = fault(question(**asked), answer(**came))
    for word in words:
        assert word in said


@given(
    atom=st.integers(0, N - 1),
    axis=st.integers(0, 2),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_the_atom_whose_force_is_not_finite_is_named(atom: int, axis: int, bad: float) -> None:
    forces = np.ones((N, 3))
    forces[atom, axis] = bad
    assert f"1 forces that are not finite (first: atom {atom})" in fault(
        question(), answer(forces=forces)
    )


def test_infinities_of_both_signs_do_not_cancel() -> None:
    forces = np.zeros((N, 3))
    forces[1], forces[3] = np.inf, -np.inf
    assert "2 forces" in fault(question(), answer(forces=forces))


def test_huge_but_finite_forces_are_let_through() -> None:
    assert fault(question(), answer(forces=np.full((N, 3), 1.7e308))) == ""


def test_no_atoms_have_no_fault() -> None:
    asked = question(positions=np.zeros((0, 3)), numbers=np.zeros(0, np.int32))
    assert fault(asked, answer(forces=np.zeros((0, 3)))) == ""
