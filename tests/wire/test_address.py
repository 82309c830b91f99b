"""Addresses that can be bound, and those that never can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixserver.core.errors import ConfigError
from mixserver.wire.address import check_worker_address, parse_address


@given(st.integers(0, 65535))
def test_every_port_there_is_will_do(port: int) -> None:
    assert check_worker_address(f"tcp://127.0.0.1:{port}") == f"tcp://127.0.0.1:{port}"
    assert parse_address(f"localhost:{port}").port == port


@given(st.integers(65536) | st.integers(max_value=-1))
def test_no_other_port_will(port: int) -> None:
    with pytest.raises(ConfigError, match="0 to 65535"):
        check_worker_address(f"tcp://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match="0 to 65535"):
        parse_address(f"localhost:{port}")


@pytest.mark.parametrize("text", ["tcp://*:5555", "tcp://[::1]:0", "tcp://host:*", "ipc:///tmp/d"])
def test_doors_that_zeromq_can_bind(text: str) -> None:
    assert check_worker_address(text) == text


@pytest.mark.parametrize("text", ["", "tcp://:5", "tcp://host", "ipc://", "udp://h:1", "tcp://h:٣"])
def test_doors_that_it_cannot(text: str) -> None:
    with pytest.raises(ConfigError, match="expected tcp://HOST:PORT"):
        check_worker_address(text)


def test_a_path_has_to_fit_into_a_socket() -> None:
    longest = "/" + "d" * 106
    assert check_worker_address(f"ipc://{longest}")
    with pytest.raises(ConfigError, match="108 bytes"):
        check_worker_address(f"ipc://{longest}d")


@pytest.mark.parametrize("path", ["\udcff", "a/\udcffb"])
def test_a_path_that_is_not_utf8_is_refused(path: str) -> None:
    for check in (parse_address, check_worker_address):
        scheme = "unix:/" if check is parse_address else "ipc:///"
        with pytest.raises(ConfigError, match="not UTF-8"):
            check(scheme + path)


@pytest.mark.parametrize("host", ["a\0b", "a b", "a\nb", "a..b", "h" * 64, "h." * 127])
def test_a_host_that_cannot_be_looked_up_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        parse_address(f"{host}:80")
    with pytest.raises(ConfigError, match="is not an address"):
        check_worker_address(f"tcp://{host}:80")


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        check_worker_address("ipc:///tmp/a\0b")


@pytest.mark.parametrize("host", ["my_server", "node-3.cluster", "::1", "fe80::1%eth0", "münchen"])
def test_names_of_hosts_that_exist_are_taken(host: str) -> None:
    assert parse_address(f"{host}:80").host == host
