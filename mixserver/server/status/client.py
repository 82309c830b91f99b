"""Asks a running server for its status."""

from __future__ import annotations

import time
from typing import Final

import zmq

from mixserver.core.errors import ProtocolError, Unreachable
from mixserver.core.keys import KeyPair, secure_client
from mixserver.wire.status import (
    MOST_ANSWER,
    Status,
    StatusQuery,
    StatusRefused,
    decode_answer,
    encode,
)
from mixserver.wire.text import SENTENCE, clean

TIMEOUT_S: Final = 3.0
_MS: Final = 1000


def ask(
    address: str, *, timeout_s: float = TIMEOUT_S, keys: tuple[KeyPair, bytes] | None = None
) -> Status:
    """The status of the server at an address.

    Args:
        address: "tcp://HOST:PORT" or "ipc://PATH".
        timeout_s: how long to wait for the answer.
        keys: the asking program's key pair and the server's public key, for a server with keys.

    Raises:
        Unreachable: it does not answer, refuses, or answers what is no status.
    """
    until = time.monotonic() + timeout_s
    with zmq.Context() as context, context.socket(zmq.DEALER) as asking:
        asking.setsockopt(zmq.LINGER, 0)
        asking.setsockopt(zmq.MAXMSGSIZE, MOST_ANSWER)
        asking.setsockopt(zmq.IPV6, int("[" in address))
        if keys is not None:
            secure_client(asking, *keys)
        try:
            asking.connect(address)
            asking.send(encode(StatusQuery()))
            if not asking.poll(max(0, round(_MS * (until - time.monotonic())))):
                raise Unreachable(
                    f"no answer from {address} within {timeout_s:g} s: no server is there, it "
                    "hangs, or it does not accept this key"
                )
            answer = decode_answer(asking.recv_multipart())
        except (zmq.ZMQError, ProtocolError) as error:
            raise Unreachable(f"{address}: {error}") from error
    if isinstance(answer, StatusRefused):
        raise Unreachable(f"{address} refuses: {clean(answer.reason, SENTENCE)}")
    return answer
