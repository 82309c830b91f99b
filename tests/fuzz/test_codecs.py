"""Some thousand hostile inputs for every codec; `fuzz_codecs.py` runs a million."""

from __future__ import annotations

import pytest
from fuzz_codecs import fuzz
from targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_raises_the_documented_error_and_no_other(name: str) -> None:
    outcome = fuzz(name, 4000, seed=2)
    assert not outcome.faults, "\n".join(outcome.examples)
    assert outcome.accepted > 100  # most of what is sent is nearly right
