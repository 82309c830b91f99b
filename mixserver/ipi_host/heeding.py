"""Signals that reach the main thread, whichever thread the kernel gave them to.

Python runs signal handlers in the main thread alone. A signal to the process may be delivered to
any thread, and does not wake a main thread that waits for a lock: i-PI would not hear that it is to
end, or that its parent died, for as long as it waits for forces.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_AGAIN_S: Final = 0.5
"""How long a poke may take to wake the main thread before it is poked again."""
_POKE: Final = signal.SIGURG
"""Wakes the main thread and means nothing else; ignored unless it was asked for."""

Handler = Callable[[int, Any], None]


def heeded(handler: Handler) -> Handler:
    """The same handler, which is run even if the main thread waits.

    Must be called in the main thread. From then on a thread listens for signals, and pokes the main
    thread with another one until that has looked at all that came: Python runs the handlers of
    all signals that are due together, in the order of their numbers, and the poke's is the last.
    """
    looked = threading.Event()
    listen, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(_POKE, lambda *_: looked.set())
    main = threading.get_ident()

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number, frame)

    def insist() -> None:
        while numbers := os.read(listen, 1024):
            if all(number == _POKE or signal.getsignal(number) is not handle for number in numbers):
                continue
            looked.clear()
            while True:
                signal.pthread_kill(main, _POKE)
                if looked.wait(_AGAIN_S):
                    break

    threading.Thread(target=insist, name="signals", daemon=True).start()
    return handle
