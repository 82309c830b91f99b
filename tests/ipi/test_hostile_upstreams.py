"""Whatever a peer sends in i-PI's place costs it its connection; the next one is answered."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_ipi import CELL, POSITIONS, FakeIpi, Peer, at_once, play

from mixserver.ipi.session import Session

GEOMETRY = CELL.T.tobytes() + np.linalg.inv(CELL.T).tobytes()


def _init(rid: int, length: int, text: bytes = b"") -> Callable[[Peer], None]:
    return lambda peer: peer.send("INIT", struct.pack("<ii", rid, length) + text)


def _batch(text: str) -> Callable[[Peer], None]:
    return lambda peer: peer.init(text)


def _count(atoms: int, data: bytes = b"") -> Callable[[Peer], None]:
    return lambda peer: peer.send("POSDATA", GEOMETRY + struct.pack("<i", atoms) + data)


def _memory(*words: bytes, atoms: int = 2) -> Callable[[Peer], None]:
    def names(peer: Peer) -> None:
        lengths = b"".join(struct.pack("<i", len(word)) + word for word in words)
        peer.send("POSDATA", struct.pack("<i", atoms) + lengths)

    return names


def _busy(then: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """Begin a request, and send something before its forces are requested."""

    def send(peer: Peer) -> None:
        peer.ask(POSITIONS, getforce=False)
        then(peer)

    return send


def _word(word: str, times: int = 1) -> Callable[[Peer], None]:
    return lambda peer: peer.connection.sendall(word.ljust(12).encode("latin-1") * times)


KINDS: dict[str, Callable[[Peer], None]] = {
    "noise": lambda peer: peer.connection.sendall(np.random.default_rng(0).bytes(4096)),
    "HTTP": lambda peer: peer.connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"),
    "zeros": lambda peer: peer.connection.sendall(bytes(4096)),
    "high bytes": lambda peer: peer.connection.sendall(b"\xff" * 4096),
    "lower case": _word("posdata"),
    "a driver's word": _word("FORCEREADY"),
    "a driver's status": _word("NEEDINIT"),
    "half a header": lambda peer: peer.connection.sendall(b"POSD"),
    "many headers": _word("STATUS", 2000),
    "GETFORCE at once": _word("GETFORCE"),
    "GETFORCE twice": _busy(_word("GETFORCE", 2)),
    "POSDATA twice": _busy(lambda peer: peer.ask(POSITIONS)),
    "INIT in between": _busy(lambda peer: peer.init(" ")),
    "batch in between": _busy(_batch("batch_size:3")),
    "INIT of -1": _init(0, -1),
    "INIT of 2^30": _init(0, 1 << 30),
    "INIT cut short": _init(0, 100, b"short"),
    "INIT not UTF-8": _init(0, 4, b"\xff\xfe\xfd\xfc"),
    "INIT of 1 MiB": _init(0, 1 << 20, b"x" * (1 << 20)),
    "batch of 0": _batch("batch_size:0"),
    "batch of -1": _batch("batch_size:-1"),
    "batch of many": _batch("batch_size:99999999"),
    "batch of words": _batch("batch_size:two"),
    "batch, then hung up": lambda peer: (peer.init("batch_size:4"), peer.ask(POSITIONS)),
    "no atoms": _count(0),
    "-1 atoms": _count(-1),
    "-2^31 atoms": _count(-(1 << 31)),
    "2^31 - 1 atoms": _count((1 << 31) - 1),
    "2^24 atoms without data": _count(1 << 24),
    "positions cut short": _count(2, POSITIONS.tobytes()[:17]),
    "memory of no one": _memory(*(b"ipi_shm_none",) * 6),
    "memory elsewhere": _memory(*(b"ipi_shm_/../../etc/passwd",) * 6),
    "memory without names": _memory(b"ipi_shm_", *(b"",) * 5),
    "memory for 2^30 atoms": _memory(*(b"ipi_shm_none",) * 6, atoms=1 << 30),
    "one byte at a time": lambda peer: [peer.connection.sendall(b"P") for _ in range(40)],
}


@pytest.fixture
def ipi() -> Iterator[FakeIpi]:
    fake = FakeIpi()
    fake.listen(8)
    yield fake
    fake.close()


async def test_each_kind_ends_its_connection_and_nothing_else(ipi: FakeIpi) -> None:
    def scene() -> list[tuple[str, float]]:
        answered: list[tuple[str, float]] = []
        for name, send in KINDS.items():
            peer = ipi.accept()
            answered.append((name, peer.force(POSITIONS)[0]))  # the one before harmed nothing
            try:
                send(peer)
            except OSError:
                continue  # it was hung up on meanwhile
            finally:
                peer.close()
        last = ipi.accept()
        last.force(POSITIONS)
        last.exit()
        return answered

    session = Session(ipi.address, at_once)
    answered: list[Any] = await play(session, scene)
    assert [name for name, _ in answered] == list(KINDS)
    assert len({energy for _, energy in answered}) == 1
    assert session.failures == 0
