"""Wakes a thread that waits in `poll`."""

from __future__ import annotations

import contextlib
import socket


class Wakeup:
    """A pair of sockets: what one thread writes makes the other one's `poll` return."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """The file descriptor to poll for input."""
        return self._reader.fileno()

    def notify(self) -> None:
        """Wake the other thread; never blocks."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it has ended
            self._writer.send(b"!")

    def clear(self) -> None:
        """Forget all notifications so far."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close both sockets."""
        self._reader.close()
        self._writer.close()
