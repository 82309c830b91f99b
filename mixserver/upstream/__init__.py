"""The session with whoever asks for forces: i-PI, or ASE's SocketIOCalculator.

`link` has one connection on a thread of its own, `session` answers what the links bring.
"""

from mixserver.upstream.session import Upstream
from mixserver.wire.address import Address, parse_address

__all__ = ["Address", "Upstream", "parse_address"]
