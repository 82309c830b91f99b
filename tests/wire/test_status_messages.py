"""The status's messages: round trips, bounds, and nothing but ProtocolError for anything else."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ProtocolError
from mixserver.wire.status import (
    MOST_ANSWER,
    MOST_QUESTION,
    STATUS_VERSION,
    EvaluationStatus,
    IpiStatus,
    RoleStatus,
    Status,
    StatusQuery,
    StatusRefused,
    WorkerStatus,
    decode_answer,
    decode_query,
    encode,
)

frames = st.lists(st.binary(max_size=400), max_size=3)


def some(**changes: object) -> Status:
    values: dict[str, object] = {
        "version": STATUS_VERSION,
        "program": "0.1.0",
        "time": 1e9,
        "case": "case/mix.toml",
        "run": "case/runs/0001",
        "host": "head",
        "pid": 7,
        "stage": "running",
        "up_s": 3.0,
        "healthy": True,
        "problems": (),
        "workers_at": "tcp://127.0.0.1:5555",
        "workers": (
            WorkerStatus(
                name="w",
                role="cheap",
                host="node",
                engine="toy",
                model="lj",
                dtype="float64",
                state="busy",
                busy_s=0.5,
                atoms=12,
                silent_s=0.1,
                jobs=3,
                mean_s=0.25,
            ),
        ),
        "roles": (
            RoleStatus(
                role="cheap",
                state="ok",
                workers=1,
                healthy=1,
                queue=0,
                waiting_s=None,
                fingerprint="ab",
                last_loss="",
            ),
        ),
        "counts": {"joined": 1},
        "evaluations": EvaluationStatus(total=3, per_s=2.0, last_age_s=0.2),
        "ipi": IpiStatus(state="connected", addresses=("unix:x",), silent_s=0.0),
    }
    return Status(**{**values, **changes})  # type: ignore[arg-type]


def test_messages_come_back_as_they_were() -> None:
    assert decode_query([encode(StatusQuery())]) == StatusQuery()
    for answer in (some(), StatusRefused(version=STATUS_VERSION, reason="no")):
        assert decode_answer([encode(answer)]) == answer


@given(frames)
def test_garbage_raises_protocol_errors_and_nothing_else(garbage: list[bytes]) -> None:
    for decode in (decode_query, decode_answer):
        with pytest.raises(ProtocolError):
            decode(garbage)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_a_damaged_answer_is_refused_or_is_an_answer(damage: bytes, at: int) -> None:
    frame = bytearray(encode(some()))
    frame[at : at + len(damage)] = damage
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_answer([bytes(frame)]), Status | StatusRefused)


def test_what_is_too_large_is_not_decoded() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        decode_query([b"\x80" * (MOST_QUESTION + 1)])
    with pytest.raises(ProtocolError, match="at most"):
        decode_answer([b"\x80" * (MOST_ANSWER + 1)])


def test_another_version_is_named_even_if_its_answer_cannot_be_read() -> None:
    later = msgspec.msgpack.encode({"type": "status", "version": STATUS_VERSION + 1, "new": 1})
    with pytest.raises(ProtocolError, match=f"version {STATUS_VERSION + 1} of the status"):
        decode_answer([later])


def test_fields_of_a_later_server_of_this_version_are_passed_over() -> None:
    raw = msgspec.msgpack.decode(encode(some()))
    assert decode_answer([msgspec.msgpack.encode({**raw, "more": 1})]) == some()
