"""How the link's thread is woken: by the main thread, and by signals."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Final

_WAKE_UP: Final = b"\0"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class WakeUps:
    """A socket of one process to itself, which a thread can poll beside others."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        """What to poll."""
        return self._receiver.fileno()

    def wake(self) -> None:
        """Wake who polls; any thread may call this."""
        with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
            self._sender.send(_WAKE_UP)

    def read(self) -> str:
        """Empty the socket; the name of a signal that came through it, if one did."""
        name = ""
        with contextlib.suppress(BlockingIOError):
            for byte in self._receiver.recv(4096):
                if byte in _SIGNALS:
                    name = signal.Signals(byte).name
        return name

    def close(self) -> None:
        """Close both ends."""
        self._receiver.close()
        self._sender.close()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT wake who polls, whatever the main thread does."""
        before = {number: signal.signal(number, _do_nothing) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def _do_nothing(number: int, frame: object) -> None:
    """Python's half of a signal handler: the interpreter has written the signal already."""
