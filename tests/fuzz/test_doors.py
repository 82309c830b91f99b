"""A run under attack at all its addresses: the same bits, and nothing is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from attacks import KINDS
from doors import besieged


@pytest.mark.physics
def test_strangers_at_every_address_change_nothing_of_a_run(tmp_path: Path) -> None:
    done = besieged(tmp_path, list(KINDS), seconds=1.0, window=1.0, seed=2)
    assert not done.wrong
    assert all(one.count for one in done.seen.values())
    assert not done.held.grown
