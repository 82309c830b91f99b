"""i-PI's streams: conversations that are nearly right, received in pieces by either side.

A conversation is a list of pieces, and "answer" or "request" where our side does something.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from mutations import NUMBERS, cut, damaged
from valid_messages import CELL

from mixserver.core.errors import EvaluationError, ProtocolError
from mixserver.wire.ipi import (
    EXIT,
    FORCEREADY,
    GETFORCE,
    INIT,
    NEEDINIT,
    POSDATA,
    READY,
    STATUS,
    Reader,
    Reply,
)
from mixserver.wire.ipi_driver import SEGMENTS, AttachMemory, Driver, RequestsReceived
from mixserver.wire.ipi_server import Client, ClientReady, ForcesReceived, ipi_virial

_PARAMETERS: Final = (b" ", b"", b"batch_size:1", b"batch_size:2", b" , batch_size : 2 ", b"a : 1")


def _packed(*numbers: int) -> bytes:
    return b"".join(struct.pack("<Q", n & (1 << 64) - 1)[:4] for n in numbers)


def _init(rng: random.Random) -> bytes:
    text = rng.choice(
        (b" ", b"", b"batch_size:1", b"batch_size:2", b" , batch_size : 2 ", b"a : 1")
    )
    return INIT + _packed(rng.choice((0, 1, -1)), len(text)) + text


def _positions(rng: random.Random, batch: int) -> bytes:
    atoms = rng.choice((1, 2, 2, 3))
    cells = np.tile(CELL.ravel(), 2 * batch).tobytes()
    head = cells + _packed(atoms) if batch == 1 else _packed(atoms) + cells
    return POSDATA + head + bytes(24 * atoms * batch)


def _segments(rng: random.Random) -> bytes:
    names = [f"ipi_shm_{rng.choice('ab')}_{kind}".encode() for kind in SEGMENTS]
    rest = b"".join(_packed(len(name)) + name for name in names)
    return POSDATA + _packed(rng.choice((1, 2))) + rest


def _driver_turn(rng: random.Random) -> list[Any]:
    """What i-PI sends for one evaluation, and our answer."""
    batch, shared = rng.choice((1, 1, 1, 2)), rng.random() < 0.15
    made: list[Any] = [STATUS] if rng.random() < 0.5 else []
    if rng.random() < 0.6:
        made.append(_init(rng))
    made += [_segments(rng) if shared else _positions(rng, batch), "answer", GETFORCE]
    if shared and rng.random() < 0.5:
        made += ["answer", POSDATA + _packed(2), GETFORCE, "answer"]
    if rng.random() < 0.3:
        made[-2:] = [GETFORCE, STATUS, "answer"]
    return made


def _streams(rng: random.Random, turn: Callable[[random.Random], list[Any]]) -> list[Any]:
    """A conversation in pieces, with something wrong in it."""
    made = [piece for _ in range(rng.randrange(1, 4)) for piece in turn(rng)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(made))
        data = made[at]
        if not isinstance(data, bytes) or rng.random() < 0.25:
            made[at : at + rng.randrange(2)] = rng.sample(made, 1)
        elif rng.random() < 0.5:
            made[at] = damaged(rng, data)
        else:
            count = rng.choice((12, 16, 156, len(data)))  # where the protocol has its counts
            made[at] = data[:count] + _packed(rng.choice(NUMBERS)) + data[count + 4 :]
    return [piece for one in made for piece in (cut(rng, one) if isinstance(one, bytes) else [one])]


def make_driver(rng: random.Random) -> tuple[bool, int, list[Any]]:
    stream = _streams(rng, _driver_turn)
    if rng.random() < 0.1:
        stream.append(EXIT)
    return rng.random() < 0.5, rng.choice((0, 8, 144, 1 << 12, 1 << 12)), stream


def _receive(reader: Reader, data: bytes, most: int) -> list[Any]:
    """As a socket does, into the reader's own buffers; these must not be larger than `most`."""
    events: list[Any] = []
    rest = memoryview(data)
    while rest:
        buffer = reader.get_buffer()
        assert 0 < len(buffer) <= most, len(buffer)
        n = min(len(buffer), len(rest))
        buffer[:n] = rest[:n]
        events += reader.buffer_updated(n)
        rest = rest[n:]
    return events


_MOST_POSITIONS: Final = 24 << 24
_MOST_EXTRAS: Final = 1 << 24


def run_driver(given: tuple[bool, int, list[Any]]) -> bool:
    announce, segment, stream = given
    driver = Driver(announce_beads=announce)
    asked: list[RequestsReceived] = []

    def heed(events: list[Any]) -> None:
        for event in events:
            if isinstance(event, AttachMemory):
                heed(driver.attached([memoryview(bytearray(segment)) for _ in event.names]))
            elif isinstance(event, RequestsReceived):
                assert driver.busy
                shapes = {request.positions.shape for request in event.requests}
                assert len(shapes) == 1
                asked.append(event)

    try:
        for piece in stream:
            if isinstance(piece, bytes):
                heed(_receive(driver, piece, _MOST_POSITIONS))
            elif asked and driver.busy:
                requests = asked.pop().requests
                asked.clear()
                zero = np.zeros((3, 3))
                driver.answer([Reply(0.0, np.zeros_like(r.positions), zero) for r in requests])
    except ProtocolError:
        _dead(driver)
        return False
    finally:
        if driver.busy:
            driver.refuse(EvaluationError("no"))
        driver.detach()
    return True


def _dead(reader: Reader) -> None:
    """After a violation in its stream nothing more is read. Other refusals leave it alive."""
    if reader._wanted is None:
        try:
            reader.get_buffer()
        except ProtocolError:
            return
        raise AssertionError("it reads on after a violation of the protocol")


def _client_turn(rng: random.Random) -> list[Any]:
    """What a client sends for one request."""
    text = rng.choice((b"", b"{}", "é".encode(), b"x" * 40, b"\0\0"))
    numbers = rng.choice((bytes(8), struct.pack("<d", float("nan")), b"\xff" * 7 + b"\x7f"))
    body = numbers + _packed(2) + bytes(40) + numbers + bytes(24 * 2 + 72 - 48) + _packed(len(text))
    ready = [READY] if rng.random() < 0.7 else [NEEDINIT, READY]
    return [*ready, "request", FORCEREADY + body + text]


def make_client(rng: random.Random) -> tuple[bool, list[Any]]:
    return rng.random() < 0.5, _streams(rng, _client_turn)


def run_client(given: tuple[bool, list[Any]]) -> bool:
    late, stream = given
    client = Client(late_init=late)
    ready, answered = 0, 0
    try:
        for piece in stream:
            if isinstance(piece, bytes):
                for event in _receive(client, piece, _MOST_EXTRAS):
                    if isinstance(event, ForcesReceived):
                        assert event.reply.forces.shape == (2, 3)
                        ipi_virial(event.reply.virial)
                        answered += 1
                    ready += isinstance(event, ClientReady)
            elif ready > answered and client._atoms is None:  # as a job may come
                client.request(np.zeros((2, 3)), CELL, parameters="a : 1")
    except ProtocolError:
        _dead(client)
        return False
    return True
