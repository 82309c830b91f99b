"""The step of the thermostat: its law, its books, and that it is i-PI's own where lambda is 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ipi.engine.thermostats import ThermoLangevin
from ipi.utils.depend import depend_array, dstrip
from ipi.utils.prng import Random
from tolerance import ROUND_TRIP

from mixserver.ipi.host.langevin import friction, kick

LAMBDAS = arrays(np.float64, st.integers(1, 9), elements=st.floats(0.0, 1.0))
STEPS = st.floats(0.0, 50.0)


def _system(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(3n,) momenta and root masses."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=3 * n), np.repeat(rng.uniform(1.0, 15.0, size=n), 3)


@given(LAMBDAS, STEPS, st.floats(1e-6, 10.0))
def test_any_friction_keeps_the_maxwell_distribution(
    lambdas: np.ndarray, steps: float, kT: float
) -> None:
    _, root = _system(len(lambdas))
    zero, one = np.zeros_like(root), np.ones_like(root)
    chosen = friction(lambdas, steps)
    kept, _ = kick(one, root, chosen, kT, zero)
    added, _ = kick(zero, root, chosen, kT, one)
    # p <- kept p + added xi with independent xi: the variance m kT must come back
    np.testing.assert_allclose(kept**2 * root**2 * kT + added**2, root**2 * kT, rtol=ROUND_TRIP)
    expected = np.repeat(np.exp(-(1.0 - lambdas) * steps), 3)
    np.testing.assert_allclose(kept, expected, rtol=ROUND_TRIP)


@given(LAMBDAS, STEPS)
def test_what_the_bath_takes_is_what_the_atoms_lose(lambdas: np.ndarray, steps: float) -> None:
    momenta, root = _system(len(lambdas))
    random = np.random.default_rng(2).normal(size=momenta.size)
    moved, heat = kick(momenta, root, friction(lambdas, steps), 0.7, random)
    before, after = 0.5 * ((momenta / root) ** 2).sum(), 0.5 * ((moved / root) ** 2).sum()
    assert heat == pytest.approx(before - after, rel=ROUND_TRIP, abs=ROUND_TRIP)


@given(LAMBDAS, STEPS)
def test_the_core_is_not_touched_and_all_else_is(lambdas: np.ndarray, steps: float) -> None:
    momenta, root = _system(len(lambdas))
    given_momenta = momenta.copy()
    moved, _ = kick(momenta, root, friction(lambdas, steps), 0.7, np.ones(momenta.size))
    core = np.repeat(lambdas == 1.0, 3)
    assert np.array_equal(moved[core], momenta[core])
    assert np.array_equal(momenta, given_momenta)
    if steps > 1e-3:
        assert (moved != momenta)[np.repeat(lambdas < 0.99, 3)].all()


def test_a_random_number_belongs_to_the_same_atom_whatever_the_region() -> None:
    momenta, root = _system(4)
    random = np.random.default_rng(3).normal(size=momenta.size)
    everywhere, _ = kick(momenta, root, friction(np.zeros(4), 0.1), 0.7, random)
    some, _ = kick(momenta, root, friction(np.array([0.0, 1.0, 0.0, 0.5]), 0.1), 0.7, random)
    assert np.array_equal(some[[0, 1, 2, 6, 7, 8]], everywhere[[0, 1, 2, 6, 7, 8]])
    assert not np.isclose(some[9:], everywhere[9:]).any()


def test_without_a_core_it_is_the_langevin_step_of_ipi() -> None:
    n, kT, dt, tau = 50, 9.5e-4, 20.7, 4134.0
    momenta, root = _system(n)
    theirs = ThermoLangevin(temp=kT, dt=dt, tau=tau)
    held = depend_array(name="p", value=momenta.copy())
    theirs.bind(pm=(held, depend_array(name="m", value=root**2)), prng=Random(seed=5))
    ours, heat, prng = momenta, 0.0, Random(seed=5)
    for _ in range(20):
        theirs.step()
        ours, taken = kick(ours, root, friction(np.zeros(n), dt / tau), kT, prng.gvec(3 * n))
        heat += taken
    np.testing.assert_allclose(ours, dstrip(theirs.p), rtol=1e-13)
    assert heat == pytest.approx(theirs.ethermo, rel=1e-11)
