"""What `check` says of the cost of a criterion."""

from __future__ import annotations

import pytest
from cells import fcc
from in_process import prepared_case

from mixserver.analysis.checks.criterion_cost import check_criterion_cost
from mixserver.config import CriterionSeeds
from mixserver.core.errors import MixserverError


@pytest.mark.parametrize(
    ("every", "samples", "said"),
    [
        (1, 1, "in every evaluation"),
        (10, 10, "in every evaluation"),
        (10, 1, "in 1 evaluation of every 10"),
        (20, 4, "in 4 evaluations of every 20"),
    ],
)
async def test_the_cost_of_a_criterion_is_said(every: int, samples: int, said: str) -> None:
    compute = "coord/atom cutoff 4.0"
    seeds = CriterionSeeds(compute=compute, low=12.5, every=every, samples=samples)
    start = fcc(3, 5.23)
    async with prepared_case(start) as setup:
        (found,) = await check_criterion_cost(setup.dispatcher, seeds, start)
    assert (found.level, found.what) == ("ok", "criterion cost")
    assert found.message.startswith(f"{compute} takes ")
    assert said in found.message
    assert found.figure is not None
    assert found.figure >= 0.0


async def test_a_compute_that_fails_is_told() -> None:
    start = fcc(3, 5.23)
    async with prepared_case(start) as setup:
        with pytest.raises(MixserverError, match="coord/atom cutoff R"):
            await check_criterion_cost(
                setup.dispatcher, CriterionSeeds(compute="nonsense", low=1.0), start
            )
