"""i-PI's shared memory, when it is not what it should be: refused in words, and never touched."""

import os
import struct
import uuid
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
from fake_ipi import POSITIONS, FakeIpi, at_once, play

from mixserver.core.errors import ProtocolError
from mixserver.ipi.session import Session
from mixserver.ipi.session.shared_memory import SharedSegments
from mixserver.wire.ipi_driver import SEGMENTS


@pytest.fixture
def names():
    """Names of segments of one connection for two atoms, filled with positions and a cell."""
    prefix = f"ipi_shm_{uuid.uuid4().hex[:8]}_"
    sizes = {"pos": 48, "h": 72, "ih": 72, "pot": 8, "force": 48, "vir": 72}
    made = {kind: SharedMemory(prefix + kind, create=True, size=sizes[kind]) for kind in SEGMENTS}
    made["pos"].buf[:48] = POSITIONS.tobytes()
    for kind in ("h", "ih"):
        made[kind].buf[:72] = np.eye(3).tobytes()
    yield {kind: memory.name for kind, memory in made.items()}
    for memory in made.values():
        memory.close()
        # whoever else opened it in this process took it for its own, and gave it up
        resource_tracker.register(f"/{memory.name}", "shared_memory")
        memory.unlink()


def truncate(name, size):
    with open(f"/dev/shm/{name}", "r+b") as file:
        os.ftruncate(file.fileno(), size)


def test_an_empty_segment_is_refused_by_name(names):
    truncate(names["force"], 0)
    with pytest.raises(ProtocolError, match=names["force"]):
        SharedSegments(list(names.values()))


@pytest.mark.parametrize("kind", ["pos", "force"], ids=["read", "written"])
async def test_memory_that_shrinks_drops_the_connection_and_not_the_server(names, kind):
    ipi = FakeIpi()
    told = b"".join(struct.pack("<i", len(name)) + name.encode() for name in names.values())

    def scene():
        ipi.listen()
        peer = ipi.accept()
        peer.ready()
        peer.send("POSDATA", struct.pack("<i", 2) + told + b"GETFORCE    ")
        assert peer.read(12) == b"FORCEREADY  "
        peer.read(4 + 2)
        peer.ready()
        truncate(names[kind], 0)
        peer.send("POSDATA", struct.pack("<i", 2) + b"GETFORCE    ")
        with pytest.raises((EOFError, ConnectionError)):
            peer.read(12)
        peer = ipi.accept()
        peer.force(POSITIONS)
        peer.exit()

    try:
        upstream = Session(ipi.address, at_once)
        await play(upstream, scene)
    finally:
        ipi.close()
    assert upstream.requests == 2
