"""The weights of the agreement over the epochs, and the split of the data."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given
from mixserver_worker.training.coupling import weights_at
from mixserver_worker.training.structures import split

from mixserver.wire.training import Agreement


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 60))
def test_weights_rise_to_their_full_size(start: int, ramp: int, epoch: int) -> None:
    tied = Agreement(energy=4.0, forces=2.0, start=start, ramp=ramp, stage_two=3.0)
    one, two = weights_at(tied, epoch, stage=1), weights_at(tied, epoch + 1, stage=1)
    assert 0.0 <= one.energy <= two.energy <= 4.0
    assert one.energy == 2.0 * one.forces
    assert bool(one) == (epoch >= start)
    if epoch >= start + ramp:
        assert (one.energy, one.forces) == (4.0, 2.0)
        assert weights_at(tied, epoch, stage=2).energy == 12.0


@given(st.integers(1, 200), st.floats(0.0, 0.9), st.integers(0, 5))
def test_every_structure_is_trained_or_held_out(count: int, fraction: float, seed: int) -> None:
    fitted, held = split(count, fraction, seed)
    assert sorted([*fitted, *held]) == list(range(count))
    assert fitted
    assert bool(held) == (count > 1)
    assert split(count, fraction, seed) == (fitted, held)
