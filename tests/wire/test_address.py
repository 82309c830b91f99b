"""Addresses that can be bound, and those that never can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.errors import ConfigError
from mixserver.wire.address import checked_door, parse_address


@given(st.integers(0, 65535))
def test_every_port_there_is_will_do(port: int) -> None:
    assert checked_door(f"tcp://127.0.0.1:{port}") == f"tcp://127.0.0.1:{port}"
    assert parse_address(f"localhost:{port}").port == port


@given(st.integers(65536) | st.integers(max_value=-1))
def test_no_other_port_will(port: int) -> None:
    with pytest.raises(ConfigError, match="0 to 65535"):
        checked_door(f"tcp://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match="0 to 65535"):
        parse_address(f"localhost:{port}")


@pytest.mark.parametrize("text", ["tcp://*:5555", "tcp://[::1]:0", "tcp://host:*", "ipc:///tmp/d"])
def test_doors_that_zeromq_can_bind(text: str) -> None:
    assert checked_door(text) == text


@pytest.mark.parametrize("text", ["", "tcp://:5", "tcp://host", "ipc://", "udp://h:1", "tcp://h:٣"])
def test_doors_that_it_cannot(text: str) -> None:
    with pytest.raises(ConfigError, match="expected tcp://HOST:PORT"):
        checked_door(text)


def test_a_path_has_to_fit_into_a_socket() -> None:
    longest = "/" + "d" * 106
    assert checked_door(f"ipc://{longest}")
    with pytest.raises(ConfigError, match="108 bytes"):
        checked_door(f"ipc://{longest}d")
