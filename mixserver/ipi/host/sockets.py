"""A driver whose connection is reset has hung up: i-PI gives its request to the next one.

In i-PI 3.3.1 a reset, which a killed server leaves with the system, ends the thread that polls the
drivers, and the simulation waits for ever.
"""

from __future__ import annotations

import socket
from typing import Any

from ipi.interfaces.sockets import DriverSocket


def take_resets_for_hang_ups() -> None:
    """Change how i-PI reads from its drivers, in this process."""

    def recv_into(self: socket.socket, *arguments: Any) -> int:
        try:
            return socket.socket.recv_into(self, *arguments)
        except ConnectionError:
            return 0  # as if the driver had closed its side

    DriverSocket.recv_into = recv_into
