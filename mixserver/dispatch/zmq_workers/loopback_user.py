"""Which user of this machine is at the other end of a connection over the loopback.

Linux tells the owner of a socket by its addresses (sock_diag over netlink), in 0.1 ms.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any, Final

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_ERROR: Final = 2
_HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: size, kind, flags, sequence number, port."""
_WANTED: Final = struct.Struct("=BBxxI")
"""struct inet_diag_req_v2 before the addresses: family, protocol, states."""
_PORTS: Final = struct.Struct("!HH")
_ANY: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
"""Any interface, any cookie."""
_USER_AT: Final = 16 + 4 + 48 + 12
"""Where the answer has the user id: after struct nlmsghdr and most of struct inet_diag_msg."""
_ESTABLISHED: Final = 1


def loopback_user(connection: socket.socket) -> int | None:
    """The user id at the other end.

    Args:
        connection: accepted, over TCP.

    Returns:
        None if the other end is not on this machine, or the kernel does not tell; -1 if its socket
        is gone by now.

    Raises:
        OSError: the connection is gone.
    """
    here, there = connection.getsockname(), connection.getpeername()
    address = ipaddress.ip_address(there[0].partition("%")[0])
    if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
        return None
    user = _owner(connection.family, there, here)
    if user is None and _owner(connection.family, here, there, established=False) is not None:
        return -1  # it can tell of our own end, which may wait to be closed by now
    return user


def _owner(
    family: int, near: tuple[Any, ...], far: tuple[Any, ...], *, established: bool = True
) -> int | None:
    """The user of the socket with these addresses; None if there is none, or not established."""
    ends = b"".join(socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (near, far))
    body = _WANTED.pack(family, socket.IPPROTO_TCP, 0xFFFFFFFF)
    body += _PORTS.pack(near[1], far[1]) + ends + _ANY
    header = _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.send(header + body)
            answer = kernel.recv(8192, socket.MSG_DONTWAIT)
    except (AttributeError, OSError):  # no Linux, or not allowed here
        return None
    if len(answer) < _USER_AT + 4 or _HEADER.unpack_from(answer)[1] == _ERROR:
        return None
    if established and answer[_HEADER.size + 1] != _ESTABLISHED:
        return None
    return int(struct.unpack_from("=I", answer, _USER_AT)[0])
