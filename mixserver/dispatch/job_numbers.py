"""Job numbers that are unique and cannot be guessed."""

from __future__ import annotations

import copy
import itertools
import secrets
from collections.abc import Iterator
from typing import Final

from msgspec.structs import force_setattr

from mixserver.wire.worker import Evaluate

_GUESSES: Final = 10**9
"""Size of the random part: the last nine digits."""


def job_numbers() -> Iterator[int]:
    """Rising numbers, none of which can be guessed from the others.

    So a worker cannot return jobs that it was not assigned, and a restarted server mistakes no job
    of its predecessor for one of its own.
    """
    numbers = itertools.count(1)
    while True:
        block = memoryview(secrets.token_bytes(8 * 256)).cast("Q")  # few system calls
        for number in block:
            yield next(numbers) * _GUESSES + number % _GUESSES


def numbered(job: Evaluate, number: int) -> Evaluate:
    """A copy of a job with another number; shares its arrays, which need no second validation."""
    copied = copy.copy(job)
    force_setattr(copied, "job", number)
    return copied
