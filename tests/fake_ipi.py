"""A hand-written i-PI that misbehaves on purpose, blocking, for a test's own thread."""

import asyncio
import contextlib
import os
import socket
import struct
import uuid

import numpy as np
from limits import HANG_S

from mixserver.wire.ipi import Reply

CELL = np.diag([9.0, 8.0, 7.0])


class FakeIpi:
    """Blocking, in the test's own thread; every wait is bounded."""

    def __init__(self, tcp=False):
        self.name = f"mix_fake_{os.getpid()}_{uuid.uuid4().hex[:6]}"
        self.listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.listener.settimeout(HANG_S)
        if tcp:
            self.listener.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        else:
            self.address = f"unix:{self.name}"
        self.tcp = tcp
        self.peers = []

    def listen(self, backlog=4):
        if not self.tcp:
            self.listener.bind(f"/tmp/ipi_{self.name}")
        self.listener.listen(backlog)

    def accept(self, timeout=HANG_S):
        peer, _ = self.listener.accept()
        peer.settimeout(timeout)
        self.peers.append(peer)
        return Peer(peer)

    def close(self):
        for peer in self.peers:
            peer.close()
        self.listener.close()
        if not self.tcp:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"/tmp/ipi_{self.name}")


class Peer:
    def __init__(self, connection):
        self.connection = connection

    def send(self, word, rest=b""):
        self.connection.sendall(word.ljust(12).encode() + rest)

    def read(self, n):
        data = b""
        while len(data) < n:
            chunk = self.connection.recv(n - len(data))
            if not chunk:
                raise EOFError(data)
            data += chunk
        return data

    def status(self):
        self.send("STATUS")
        return self.read(12).decode().strip()

    def init(self, text=" ", rid=0):
        self.send("INIT", struct.pack("<ii", rid, len(text)) + text.encode())

    def ready(self, text=" "):
        if self.status() == "NEEDINIT":
            self.init(text)
            assert self.status() == "READY"

    def ask(self, positions, slots=0, getforce=True, cell=CELL):
        cell = cell.T.tobytes() + np.linalg.inv(cell.T).tobytes()
        count = struct.pack("<i", len(positions) // max(slots, 1))
        head = count + cell * slots if slots else cell + count
        self.send("POSDATA", head + positions.tobytes() + (b"GETFORCE    " if getforce else b""))

    def forces(self, n, begun=False):
        assert self.read(11 if begun else 12) == b"FORCEREADY  "[begun:]
        (energy,) = struct.unpack("<d", self.read(8))
        assert struct.unpack("<i", self.read(4)) == (n,)
        forces = np.frombuffer(self.read(24 * n)).reshape(n, 3)
        virial = np.frombuffer(self.read(72)).reshape(3, 3)
        self.read(struct.unpack("<i", self.read(4))[0])
        return energy, forces, virial

    def force(self, positions):
        self.ready()
        self.ask(positions)
        return self.forces(len(positions))

    def exit(self):
        self.send("EXIT")
        self.connection.close()

    def close(self):
        self.connection.close()


def spring(request):
    return Reply(
        float((request.positions**2).sum()), -2.0 * request.positions, np.zeros((3, 3)), "{}"
    )


async def at_once(request):
    return spring(request)


async def play(upstream, scene, *, ends=True):
    """Run a blocking scene against an upstream that runs; the scene's EXIT ends it."""
    running = asyncio.create_task(upstream.run())
    try:
        result = await asyncio.to_thread(scene)
        if ends:
            await asyncio.wait_for(running, 10)
        return result
    finally:
        upstream.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


POSITIONS = np.arange(6.0).reshape(2, 3)
