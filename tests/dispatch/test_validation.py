"""A result is held against its question before anybody mixes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.dispatch.validation import result_error, strongest_force_error
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


def test_a_complete_result_is_valid() -> None:
    asked = question(energies=True, criterion="coord/atom cutoff 2.9")
    energies = np.full(N, -1.0 / N)
    assert result_error(asked, answer(energies=energies, values=np.zeros(N))) == ""


def test_an_energy_that_is_not_the_sum_of_its_site_energies() -> None:
    asked = question(energies=True)
    said = result_error(asked, answer(energy=-14.0, energies=np.full(N, -3.0)))
    assert "-14 eV" in said
    assert "5 site energies add up to -15 eV" in said


def test_where_sites_are_weighted_the_rest_may_be_left_out() -> None:
    asked = question(energies=True, weight=np.array([0.0, 0.0, 0.5, 0.25, 1.0]))
    energies = np.array([0.0, 0.0, -1.0, -2.0, -3.0])
    assert result_error(asked, answer(energy=-4.0, energies=energies)) == ""
    assert "add up to -4 eV" in result_error(asked, answer(energy=-3.0, energies=energies))


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
        assert result_error(asked, came) == ""


def test_a_result_may_have_more_than_was_requested() -> None:
    assert result_error(question(), answer(energies=np.zeros(N), extras="{}")) == ""


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
def test_every_error_is_named(
    asked: dict[str, object], came: dict[str, object], words: list[str]
) -> None:
    said = result_error(question(**asked), answer(**came))
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
    assert f"1 forces that are not finite (first: atom {atom})" in result_error(
        question(), answer(forces=forces)
    )


def test_infinities_of_both_signs_do_not_cancel() -> None:
    forces = np.zeros((N, 3))
    forces[1], forces[3] = np.inf, -np.inf
    assert "2 forces" in result_error(question(), answer(forces=forces))


@pytest.mark.parametrize("n", [N, 20_000])
@pytest.mark.parametrize("strongest", [1.7e308, -1e300, 1e9, 9e7, -1e7])
def test_forces_that_no_structure_explains_are_named(n: int, strongest: float) -> None:
    forces = np.ones((n, 3))
    forces[3, 1] = strongest
    said = strongest_force_error(answer(forces=forces))
    assert ("on atom 3" in said) == (abs(strongest) > 1e8)
    assert (
        result_error(
            question(positions=np.zeros((n, 3)), numbers=np.ones(n, np.int32)),
            answer(forces=forces),
        )
        == ""
    )


@given(seed=st.integers(0, 2**32), n=st.integers(1, 500), force=st.floats(0.01, 100.0))
def test_a_virial_is_symmetric_up_to_rounding(seed: int, n: int, force: float) -> None:
    rng = np.random.default_rng(seed)
    forces = rng.normal(0.0, force, (n, 3)).astype(np.float32)
    arms = rng.normal(0.0, 6.0, (n, 3)).astype(np.float32)
    virial = np.zeros((3, 3), np.float32)  # of forces without torque, added up in single precision
    for arm, pull in zip(arms, forces, strict=True):
        virial += 0.5 * np.outer(arm, pull)
        virial += 0.5 * np.outer(pull, arm)
    asked = question(positions=np.zeros((n, 3)), numbers=np.ones(n, np.int32))
    came = answer(forces=forces.astype(float), virial=virial.astype(float))
    assert result_error(asked, came) == ""


def test_an_asymmetric_virial_is_refused_unless_it_is_a_stock_clients() -> None:
    virial = np.diag([3.0, 2.0, 1.0])
    virial[0, 2] = 0.1
    said = result_error(question(), answer(virial=virial))
    assert "not symmetric, by 0.1 eV" in said
    assert result_error(question(), answer(virial=virial), symmetric=False) == ""


def test_a_result_without_atoms_is_valid() -> None:
    asked = question(positions=np.zeros((0, 3)), numbers=np.zeros(0, np.int32))
    assert result_error(asked, answer(forces=np.zeros((0, 3)))) == ""
