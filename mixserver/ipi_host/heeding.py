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

_WAIT_S: Final = 0.5
"""Within this the main thread should have run the handler."""

Handler = Callable[[int, Any], None]


def heeded(handler: Handler) -> Handler:
    """The same handler, which is run even if the main thread waits.

    Must be called in the main thread. From then on a thread listens for signals, and interrupts the
    main thread until the handler has begun.
    """
    began = threading.Event()
    listen, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    main = threading.get_ident()

    def handle(number: int, frame: FrameType | None) -> None:
        began.set()
        handler(number, frame)

    def insist() -> None:
        while number := os.read(listen, 1):
            if signal.getsignal(number[0]) is not handle:
                continue
            while not began.wait(_WAIT_S):
                signal.pthread_kill(main, number[0])
                os.read(listen, 1)  # what this itself told
            began.clear()

    threading.Thread(target=insist, name="signals", daemon=True).start()
    return handle
