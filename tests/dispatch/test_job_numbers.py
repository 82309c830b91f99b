"""Numbers of jobs cannot be foreseen and are never used twice."""

from __future__ import annotations

from itertools import islice, pairwise

from mixserver.dispatch.job_numbers import job_numbers


def test_numbers_rise_by_steps_that_cannot_be_guessed() -> None:
    numbers = list(islice(job_numbers(), 2000))
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    assert min(steps) > 0
    assert len(set(steps)) > len(steps) - 5  # two may be equal by chance
    assert max(numbers) < 2**63  # what a header can say


def test_two_servers_have_no_number_in_common() -> None:
    one, other = (set(islice(job_numbers(), 2000)) for _ in range(2))
    assert not one & other
