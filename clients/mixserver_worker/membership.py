"""A worker's membership of a server: heartbeats, patience, and when to join again.

Pure bookkeeping of times; the link does the sending and waiting.
"""

from __future__ import annotations

from typing import Final

_PATIENCE_S: Final = 5.0
"""How long a Hello may stay unanswered at most, until the server has sent its own patience."""
_FIRST_HELLO_S: Final = 1.0
"""How long the first Hello may stay unanswered, for a connection that breaks loses it; the next
ones twice as long each, for the server may be busy."""
_PAUSE_S: Final = 0.5
"""A link that wakes later than this was itself suspended, so its server is not declared lost."""


class Membership:
    """What one link knows of its server.

    Args:
        wait_s: how long to look for a server.
        now: seconds on a clock that does not go backwards, as in all methods.
    """

    def __init__(self, wait_s: float, now: float) -> None:
        self.wait_s = self._usual_wait_s = wait_s
        self.joined = False
        self.dismissed = False
        """Whether the last server ended in order, and another one is awaited."""
        self._heartbeat_s = 1.0
        self._patience_s = _PATIENCE_S
        self._received = self._sent = self._woken = now
        self._alone_since = now
        self._hellos = 0

    @property
    def poll_s(self) -> float:
        """How long to wait for messages at most."""
        timeout = 0.5 * self._heartbeat_s if self.joined else 0.5
        return min(timeout, max(0.0, self._alone_since + self.wait_s - self._woken))

    @property
    def silence_s(self) -> float:
        """For how long the server had sent nothing when the link last woke."""
        return self._woken - self._received

    @property
    def server_silent(self) -> bool:
        """Whether too much time has passed without a message, so that a new connection is due."""
        limit = self._patience_s
        if not self.joined:
            limit = min(limit, _FIRST_HELLO_S * 2.0 ** max(0, self._hellos - 1))
        return self.silence_s > limit

    @property
    def server_missing(self) -> bool:
        """Whether no server was found for too long."""
        return not self.joined and self._woken - self._alone_since >= self.wait_s

    def heartbeat_due(self, now: float) -> bool:
        """Whether the server should get a sign of life."""
        return self.joined and now - self._sent >= 0.5 * self._heartbeat_s

    def woke(self, now: float, planned_s: float) -> None:
        """The link woke after it had planned to wait so long at most."""
        late = now - self._woken - planned_s
        self._woken = now
        if late > _PAUSE_S:  # messages may still be on their way through the kernel and ZeroMQ
            self._received = min(now, self._received + late)

    def received(self, now: float) -> None:
        """A message came."""
        self._received = now

    def sent(self, now: float) -> None:
        """A message was sent."""
        self._sent = now

    def said_hello(self, now: float) -> None:
        """A Hello was sent; an answer is expected from now on."""
        self._hellos = 1 if self.joined else min(self._hellos + 1, 30)
        self.lost(now)
        self._received = now

    def welcome(self, heartbeat_s: float, patience_s: float) -> None:
        """The server accepted this worker."""
        self._heartbeat_s, self._patience_s = heartbeat_s, patience_s
        self.joined, self.dismissed, self.wait_s = True, False, self._usual_wait_s

    def dismiss(self, now: float, stay_s: float) -> None:
        """The server ended in order; look for another one for `stay_s`."""
        self.lost(now)
        self.dismissed, self.wait_s, self._alone_since = True, stay_s, now

    def lost(self, now: float) -> None:
        """The server is gone or does not know this worker any more."""
        self._alone_since = now if self.joined else self._alone_since
        self.joined = False
