"""Jobs and answers between a worker's main thread and the thread of its link.

Knows which job is being evaluated and which answer the server may not have received, so that a
worker that joins again can resume. Safe to use from both threads.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator

from mixserver.wire.worker import Evaluate, Failure, Result


class Mailbox:
    """One job at a time for the main thread; its answers for the link."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[tuple[int, Evaluate] | None] = queue.SimpleQueue()
        self._outbox: deque[Result | Failure] = deque()
        self._lock = threading.Lock()
        """Held to begin a job, to post its answer, and to join with what is held."""
        self._membership = 0
        """Counts memberships: a job of an earlier one that was not begun is dropped."""
        self._current: int | None = None
        self._last: Result | Failure | None = None
        """The latest answer, kept until another job comes: it may not have arrived."""

    @property
    def current(self) -> int | None:
        """The job that the main thread evaluates."""
        return self._current

    # The main thread's side.

    def jobs(self) -> Iterator[Evaluate]:
        """The jobs as they come, until `end`."""
        while (item := self._inbox.get()) is not None:
            membership, job = item
            with self._lock:
                valid = membership == self._membership
                self._current = job.job if valid else None
            if valid:
                yield job
                self._current = None

    def post(self, answer: Result | Failure) -> bool:
        """Post the answer to the current job; False if it is not current any more."""
        with self._lock:
            if self._current != answer.job:
                return False
            self._current, self._last = None, answer
            self._outbox.append(answer)
        return True

    # The link's side.

    def join(self) -> int | None:
        """Begin a membership; returns the job whose answer the server still lacks, if any."""
        with self._lock:
            self._membership += 1
            self._outbox.clear()
            if self._current is not None or self._last is None:
                return self._current
            self._outbox.append(self._last)
            return self._last.job

    def drain(self) -> None:
        """Drop a job that was not begun; the one that is evaluated goes on."""
        with self._lock:
            self._membership += 1

    @property
    def idle(self) -> bool:
        """Whether no job is evaluated and no answer is to be sent."""
        with self._lock:
            return self._current is None and not self._outbox

    def deliver(self, job: Evaluate) -> None:
        """Queue a job; it shows that the server needs no earlier answer any more."""
        with self._lock:
            self._last = None
        self._inbox.put((self._membership, job))

    def answers(self) -> Iterator[Result | Failure]:
        """Take the answers that are to be sent."""
        while self._outbox:
            yield self._outbox.popleft()

    def end(self) -> None:
        """No more jobs will come."""
        self._inbox.put(None)
