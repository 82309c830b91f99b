"""--until: durations, times of day, dates, the end of a Slurm job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.cli.until import end_time
from mixserver.server.launch import stop_at

NOW = datetime(2026, 3, 28, 17, 0)
EASTERN = "EET-2EEST,M3.5.0/3,M10.5.0/4"
"""Two hours east of Greenwich; summer time begins on 29 March 2026."""


@pytest.fixture(autouse=True, scope="module")
def _zone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", EASTERN)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("words", "after_s"),
    [
        ("36h", 36 * 3600.0),
        ("90 min", 5400.0),
        ("1d12h30m", 131400.0),
        ("0.5h", 1800.0),
        ("45s", 45.0),
        ("18:30", 5400.0),
        ("16:59", 82740.0),  # tomorrow, which has 23 hours
        ("2026-03-29T18:00", 86400.0),
        ("2026-03-28T18:00", 3600.0),
        ("2026-03-28T17:00+00:00", 7200.0),
        ("slurm", 3480.0),
    ],
)
def test_each_way_to_write_a_time(words: str, after_s: float) -> None:
    slurm = {"SLURM_JOB_END_TIME": str(int(NOW.timestamp()) + 3600)}
    assert end_time(words, NOW, slurm) - NOW.timestamp() == pytest.approx(after_s)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no time; expected a duration"),
        ("36", "no time; expected a duration"),
        ("25:00", "no time of day"),
        ("2020-01-01", "is over by"),
        ("slurm", "SLURM_JOB_END_TIME is not set"),
        ("soon", "or slurm for the end of the Slurm job"),
    ],
)
def test_what_is_no_time_is_refused(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        end_time(words, NOW, {})


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99))
def test_pieces_of_a_duration_add_up(days: int, hours: int, minutes: int) -> None:
    found = end_time(f"{days}d{hours}h {minutes}min", NOW, {}) - NOW.timestamp()
    assert found == pytest.approx(86400.0 * days + 3600.0 * hours + 60.0 * minutes)


async def test_a_time_that_is_over_stops_at_once_and_none_never() -> None:
    stop = asyncio.Event()
    await stop_at(datetime.now(UTC).timestamp() - 1.0, stop)
    assert stop.is_set()
    never = asyncio.Event()
    task = asyncio.create_task(stop_at(None, never))
    await asyncio.sleep(0.0)
    assert not task.done()
    assert not never.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    soon = asyncio.Event()
    await stop_at(time.time() + 0.05, soon)
    assert soon.is_set()
