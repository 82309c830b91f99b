"""Numbers of jobs: each is used once, and the next cannot be foreseen."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from typing import Final

_GUESSES: Final = 10**9
"""Numbers that are as likely as the one that is given; their last nine digits are random."""


def job_numbers() -> Iterator[int]:
    """Rising numbers, none of which can be guessed from the others.

    So a worker cannot answer jobs that it has not been given, and a server that was restarted takes
    no job of its predecessor for one of its own.
    """
    numbers = itertools.count(1)
    while True:
        block = memoryview(secrets.token_bytes(8 * 256)).cast("Q")  # the system is asked seldom
        for number in block:
            yield next(numbers) * _GUESSES + number % _GUESSES
