"""A driver that is killed while i-PI talks to it costs i-PI this driver, not the run."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys

import numpy as np
import pytest
from limits import HANG_S

PROGRAM = """
import socket, sys
import numpy as np
from ipi.interfaces.sockets import Disconnected, Driver
from mixserver.ipi.host.sockets import take_resets_for_hang_ups
if {heed}:
    take_resets_for_hang_ups()
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
connection.settimeout(5.0)
driver = Driver(connection)
print("accepted", flush=True)
sys.stdin.readline()
for read in (lambda: driver._recv_forces_bulk(2), lambda: driver.recvall(np.zeros(4))):
    try:
        read()
    except Disconnected:
        print("hung up", flush=True)
"""


@pytest.mark.parametrize("heed", [True, False])
def test_a_reset_is_a_hang_up(heed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(heed=heed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        driver = socket.create_connection(("127.0.0.1", int(running.stdout.readline())))
        assert running.stdout.readline() == "accepted\n"
        driver.sendall(b"FORCEREADY  " + np.zeros(3).tobytes())
        driver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        driver.close()  # with a reset, as the system sends it for a killed process
        said, error = running.communicate("\n", timeout=HANG_S)
    assert said.splitlines() == (["hung up", "hung up"] if heed else [])
    assert ("ConnectionResetError" in error) != heed  # without it there is something to cure
