"""Signals that reach the main thread, whichever thread the kernel delivers them to.

Python runs signal handlers in the main thread alone. A signal to the process may be delivered to
any thread, and does not wake a main thread that waits for a lock: i-PI would not react to SIGTERM,
or to the death of its parent, as long as it waits for forces.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_AGAIN_S: Final = 0.5
"""Time for a signal to wake the main thread before it is sent again."""
_WAKE: Final = signal.SIGURG
"""Only wakes the main thread."""

Handler = Callable[[int, Any], None]


def delivered_to_main_thread(handler: Handler) -> Handler:
    """The same handler, run even if the main thread waits.

    Must be called in the main thread. From then on a thread listens for signals, and wakes the main
    thread with another one until it has handled all: Python runs the handlers of all pending
    signals together, in the order of their numbers, and that of the waking signal is the last.
    """
    handled = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(_WAKE, lambda *_: handled.set())
    main = threading.get_ident()

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number, frame)

    def wake_main_thread() -> None:
        while numbers := os.read(reader, 1024):
            if all(number == _WAKE or signal.getsignal(number) is not handle for number in numbers):
                continue
            handled.clear()
            while True:
                signal.pthread_kill(main, _WAKE)
                if handled.wait(_AGAIN_S):
                    break

    threading.Thread(target=wake_main_thread, name="signals", daemon=True).start()
    return handle
