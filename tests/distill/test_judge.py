"""What an evaluation costs and how site energies differ, asked of real workers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from argon import crystal, order_in
from tolerance import EXACT

from mixserver.distill.descriptor import Descriptor
from mixserver.distill.judge import cost, site_energies, spread
from mixserver.distill.labelled import Structure
from mixserver.distill.pair import PairBasis
from mixserver.distill.pool import cheap_workers
from mixserver.distill.potential import write_potential


def structure(name: str, numbers: list[int]) -> Structure:
    frame = crystal(1)
    group = np.zeros(4, np.int32)
    return Structure(name, "hot", np.array(numbers, np.int32), frame.positions, frame.cell, group)


async def test_potentials_side_by_side(tmp_path: Path) -> None:
    order = order_in(tmp_path)
    none = PairBasis(functions=0, inner=2.0, cutoff=5.0, elements=("Ar",))
    async with contextlib.AsyncExitStack() as stack:
        asked = []
        for twojmax in (2, 8):
            d = Descriptor(
                twojmax=twojmax, cutoff=5.2, elements=("Ar",), radii=(0.5,), weights=(1.0,)
            )
            coefficients = np.zeros(d.columns)
            coefficients[0] = -twojmax
            file = write_potential(tmp_path, f"ar{twojmax}", d, none, coefficients)
            folder = tmp_path / f"workers-{twojmax}"
            asked.append(await stack.enter_async_context(cheap_workers(order, file, folder)))
        few, many = [await cost(one, "cheap", crystal(1), atoms=100) for one in asked]
        told = [await site_energies(one, "cheap", [structure("s", [18] * 4)]) for one in asked]
    assert 0.0 < few.microseconds < 1e4
    assert few.spread >= 0.0
    assert many.microseconds > 3.0 * few.microseconds  # about 15 on an idle machine
    for twojmax, energies in zip((2, 8), told, strict=True):
        np.testing.assert_allclose(energies, [np.full(4, -twojmax)], atol=EXACT)


def test_the_spread_knows_no_zeros_of_energy() -> None:
    both = [structure("a", [18, 18, 18, 10]), structure("b", [18, 10, 10, 18])]
    rng = np.random.default_rng(0)
    cheap = [rng.normal(size=4) for _ in both]
    zeros = {18: 7.0, 10: -3.0}
    expensive = [c + [zeros[int(z)] for z in s.numbers] for c, s in zip(cheap, both, strict=True)]
    assert spread(expensive, cheap, both) == pytest.approx(0.0, abs=EXACT)
    expensive[0][0] += 0.5
    # one of five argon atoms is off by 0.5: 0.4 from the mean, the others 0.1; eight atoms in all
    assert spread(expensive, cheap, both) == pytest.approx(np.sqrt((0.4**2 + 4 * 0.1**2) / 8))
