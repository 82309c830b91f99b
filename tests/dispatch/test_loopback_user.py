"""The user at the other end of a loopback connection."""

from __future__ import annotations

import os
import socket

import pytest

from mixserver.dispatch.zmq_workers.loopback_user import loopback_user


@pytest.mark.parametrize(
    ("bound", "family", "to"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("::1", socket.AF_INET6, "::1"),
        ("::", socket.AF_INET6, "127.0.0.1"),  # a listener for both kinds
    ],
)
def test_it_is_found_and_its_end_is_noticed(bound: str, family: int, to: str) -> None:
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            listener.bind((bound, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen(1)
        peer = socket.create_connection((to, listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            assert loopback_user(accepted) == os.getuid()
            peer.shutdown(socket.SHUT_WR)  # as one does that wants to be taken for a stranger's
            assert loopback_user(accepted) == -1
            peer.close()
            assert loopback_user(accepted) == -1
