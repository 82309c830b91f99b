"""Whatever an upstream sends, in whatever pieces: `ProtocolError` is the only thing raised.

What is sent is nearly right, because random bytes end at the first header.
"""

from __future__ import annotations

import contextlib
import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mixserver.core.errors import EvaluationError, ProtocolError
from mixserver.wire.ipi import (
    EXIT,
    GETFORCE,
    INIT,
    POSDATA,
    STATUS,
    Reply,
    Request,
)
from mixserver.wire.ipi_driver import SEGMENTS, AttachMemory, Driver, RequestsReceived

NUMBERS = st.sampled_from([-(1 << 31), -2, -1, 0, 1, 2, 3, 4, 8, 255, 1 << 16, (1 << 31) - 1])
ATOMS = st.sampled_from([1, 2, 2, 2, 3, -1, 0, 1 << 12])
BATCHES = st.sampled_from(
    ["", "", "batch_size:1", "batch_size:2", "batch_size : 3", "batch_size:0"]
)
TEXTS = BATCHES | st.sampled_from(["a:1", "batch_size:x", "batch_size:99999", "é", ",:,:"])


def packed(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


@st.composite
def inits(draw: st.DrawFn) -> bytes:
    text = draw(TEXTS).encode()
    length = draw(st.just(len(text)) | NUMBERS) if draw(st.integers(0, 9)) == 0 else len(text)
    return INIT + packed(draw(NUMBERS), length) + text


@st.composite
def positions(draw: st.DrawFn) -> bytes:
    batch, atoms = draw(st.integers(1, 3)), draw(ATOMS)
    cells = np.tile(np.eye(3).ravel(), 2 * batch).tobytes()
    count = packed(atoms)
    head = cells + count if batch == 1 else count + cells
    body = bytes(24 * max(0, min(atoms, 8)) * batch)
    return POSDATA + head + body + draw(st.sampled_from([b"", GETFORCE]))


@st.composite
def shared(draw: st.DrawFn) -> bytes:
    names = [f"ipi_shm_{draw(st.sampled_from('ab'))}_{kind}".encode() for kind in SEGMENTS]
    if draw(st.integers(0, 9)) == 0:
        names[draw(st.integers(0, 5))] = draw(st.binary(max_size=12))
    rest = b"".join(packed(len(name)) + name for name in names)
    return POSDATA + packed(draw(ATOMS)) + rest + draw(st.sampled_from([b"", GETFORCE]))


def frame(batch: int) -> bytes:
    cells, count = np.tile(np.eye(3).ravel(), 2 * batch).tobytes(), packed(2)
    return POSDATA + (cells + count if batch == 1 else count + cells) + bytes(48 * batch)


def init(text: str) -> bytes:
    return INIT + packed(1, len(text)) + text.encode()


NAMES = b"".join(packed(9 + len(kind)) + b"ipi_shm_a" + kind.encode() for kind in SEGMENTS)
GOOD = [
    "answer",
    "answer",
    STATUS,
    GETFORCE,
    frame(1),
    frame(1) + GETFORCE,
    frame(2) + GETFORCE,
    init(""),
    init("batch_size:1"),
    init("batch_size:2"),
    POSDATA + packed(2) + NAMES,
    POSDATA + packed(2),
]
BAD = st.one_of(inits(), positions(), shared(), st.binary(max_size=24), st.just(EXIT))
ACTIONS = st.lists(st.sampled_from(GOOD), min_size=3, max_size=12).flatmap(
    lambda good: st.tuples(st.just(good), st.integers(0, len(good)), BAD)
)


def answer(request: Request) -> Reply:
    return Reply(0.0, np.zeros_like(request.positions), np.zeros((3, 3)))


@settings(max_examples=1000)
@given(
    ACTIONS,
    st.integers(1, 400),
    st.booleans(),
    st.sampled_from([0, 8, 1 << 10, 1 << 16, 1 << 16]),
    st.booleans(),
)
def test_only_protocol_errors_come_out(
    actions: tuple[list[bytes | str], int, bytes],
    cut: int,
    at_once: bool,
    segment: int,
    announce: bool,
) -> None:
    """Answers come at once, or whenever: between any two messages."""
    driver = Driver(announce_beads=announce)
    asked: list[RequestsReceived] = []
    good, place, bad = actions

    def reply() -> None:
        requests = asked.pop().requests
        asked.clear()
        heed(driver.answer([answer(request) for request in requests]))

    def heed(events: list[object]) -> None:
        for event in events:
            if isinstance(event, AttachMemory):
                heed(driver.attached([memoryview(bytearray(segment)) for _ in event.names]))
            elif isinstance(event, RequestsReceived):
                asked.append(event)
                if at_once:
                    reply()

    with contextlib.suppress(ProtocolError):
        for action in [*good[:place], bad, *good[place:]]:
            if isinstance(action, str):
                if asked and driver.busy:
                    reply()
                continue
            for at in range(0, len(action), cut):
                heed(driver.feed(action[at : at + cut]))
    if driver.busy:
        driver.refuse(EvaluationError("no"))
