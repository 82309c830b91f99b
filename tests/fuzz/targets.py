"""What is fuzzed: for each codec how inputs are made, and what may become of them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ipi_streams import make_client, make_driver, run_client, run_driver
from mutations import frames
from valid_messages import CELL, STATUS_ANSWER, evaluates, hello, result, small_messages

from mixserver.core.errors import ConfigError, EvaluationError, ProtocolError
from mixserver.dispatch.scheduling.admission import invalid_hello, printable_card
from mixserver.dispatch.validation import result_error, strongest_force_error
from mixserver.wire import status, worker, worker_frames
from mixserver.wire.address import Address, check_worker_address, is_local, parse_address
from mixserver.wire.ipi import READY, Reply
from mixserver.wire.ipi_reply import check_reply, encode_replies
from mixserver.wire.ipi_server import Client
from mixserver.wire.replicas import separate, separate_result

Input = Any


@dataclass(frozen=True)
class Target:
    """One codec."""

    make: Callable[[random.Random], Input]
    run: Callable[[Input], bool]
    """Whether the input was accepted. Raises what the codec should not have raised, or
    AssertionError if it accepted what it should not have."""


# workers' messages

_JOBS: Final = evaluates()


@functools.cache
def worker_corpus() -> list[list[bytes]]:
    made = [*_JOBS, *map(result, _JOBS), hello(), *small_messages()]
    return [[bytes(frame) for frame in worker_frames.encode(message)] for message in made]


def _run_worker(given: list[bytes]) -> bool:
    try:
        message = _DECODER.decode(given)
    except ProtocolError:
        return False
    arrays = [
        value
        for name in message.__struct_fields__
        if isinstance(value := getattr(message, name), np.ndarray)
    ]
    assert len(arrays) == len(given) - 1
    assert sum(array.nbytes for array in arrays) == sum(map(len, given[1:]))
    assert not any(array.flags.writeable for array in arrays)
    match message:
        case worker.Result():
            for job in _JOBS:
                if not result_error(job, message) and job.replica is not None:
                    assert len(separate_result(message, job)) == job.replicas
            strongest_force_error(message)
        case worker.Hello():
            if not invalid_hello(message):
                assert printable_card(message.model).name.isprintable()
        case worker.Evaluate():
            assert message.sites.shape == (len(message.positions),)
            parts = separate(message)
            assert len(parts) == message.replicas
            assert sum(len(part.positions) for part in parts) == len(message.positions)
    return True


_DECODER: Final = worker_frames.Decoder()

# status


def _make_status(rng: random.Random) -> list[bytes]:
    valid = status.StatusQuery() if rng.random() < 0.3 else STATUS_ANSWER
    return frames(rng, [status.encode(valid)])


def _run_status(given: list[bytes]) -> bool:
    accepted = 0
    for decode in (status.decode_query, status.decode_answer):
        try:
            decode(given)
        except ProtocolError:
            continue
        accepted += 1
    assert accepted < 2
    return bool(accepted)


# texts and replies

_ADDRESSES: Final = (
    *(
        "unix:silicon",
        "unix:/tmp/a b",
        "localhost:31415",
        "[::1]:80",
        "tcp://127.0.0.1:0",
        "tcp://*:1",
    ),
    *("ipc:///tmp/door", "tcp://[::1]:*", "unix:" + "x" * 100, "h:65536", "ipc://@abstract"),
)
_CHARACTERS: Final = (*":/[]*@\0\n %-+_", "٣", "é", "\udcff", "\ud800", "99999", "tcp://", "x" * 60)


def _make_address(rng: random.Random) -> str:
    text = list(rng.choice(_ADDRESSES))
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.randrange(3)] = rng.choice(_CHARACTERS)
    return "".join(text)


def _run_address(given: str) -> bool:
    accepted = 0
    is_local(given)
    for read in (parse_address, check_worker_address):
        try:
            found = read(given)
        except ConfigError as error:
            str(error).encode("utf-8", "backslashreplace")
            continue
        accepted += 1
        if isinstance(found, Address):
            assert found.unix or (found.host and 0 <= found.port <= 65535)
            assert len(found.path.encode("utf-8", "surrogateescape")) <= 107
            assert "\0" not in str(found)
    return bool(accepted)


_EXTRAS: Final = (
    *("", " ", "{}", "[]", "1", "null", '{"raw": 1}', '{"a": 1, "a": 2}', "text"),
    *('{"a": [1.5, NaN]}', '{"virial": [1]}', "Infinity", '"raw"', '{"a": {"raw": 1}}'),
    *("[" * 5000, '{"a":' * 3000, "\ufeff{}", "1" * 5000, '{"\\ud800": 1}', "\x00{}"),
    *("-", "{1:2}", "\n\n", '{"dipole": [0, 0, 1]}'),
)
_PIECES: Final = (*'{}[]",:\\ \n\0', "raw", "é", "\ud800", "1e999")


def _make_reply(rng: random.Random) -> Reply:
    text = rng.choice(_EXTRAS)
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(len(text) + 1)
        text = (
            text[:at] + rng.choice((*'{}[]",:\\ \n\0', "raw", "é", "\ud800", "1e999")) + text[at:]
        )
    forces = np.zeros((rng.choice((2, 2, 2, 3, 0)), rng.choice((3, 3, 3, 2))))
    virial = np.zeros((3, rng.choice((3, 3, 3, 1))))
    odd = (float("nan"), float("inf"), 1e308, -1e308, 5e-324, 1.0, 1.0, 1.0)
    if forces.size:
        forces.flat[rng.randrange(forces.size)] = rng.choice(odd)
    virial.flat[0] = rng.choice(odd)
    return Reply(rng.choice(odd), forces, virial, text)


@functools.cache
def _parse_extra() -> Callable[[str], Any]:
    from ipi.interfaces.sockets import parse_extra

    return parse_extra  # type: ignore[no-any-return]


def _run_reply(given: Reply) -> bool:
    """A reply that passes must survive i-PI's own parser and arrive as it was sent."""
    try:
        check_reply(given, 2)
    except EvaluationError:
        return False
    _parse_extra()(given.extras)
    client = Client()
    client.feed(READY)
    client.request(np.zeros((2, 3)), CELL)
    received = client.feed(encode_replies([given], 2))[0].reply
    assert received.forces.shape == (2, 3)
    assert np.allclose(received.forces, given.forces, rtol=1e-14, atol=1e-320)
    assert np.isclose(received.energy, given.energy, rtol=1e-14, atol=1e-320)
    assert received.extras == given.extras.replace("\0", "")
    return True


TARGETS: Final = {
    "worker": Target(lambda rng: frames(rng, rng.choice(worker_corpus())), _run_worker),
    "status": Target(_make_status, _run_status),
    "ipi_driver": Target(make_driver, run_driver),
    "ipi_server": Target(make_client, run_client),
    "address": Target(_make_address, _run_address),
    "ipi_reply": Target(_make_reply, _run_reply),
}
