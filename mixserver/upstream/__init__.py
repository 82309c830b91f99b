"""The session with whoever asks for forces: i-PI, or ASE's SocketIOCalculator.

`link` has one connection on a thread of its own, `session` answers what the links bring, `repeats`
lets an evaluation outlive the connection that asked for it.
"""

from mixserver.upstream.repeats import too_long
from mixserver.upstream.session import Upstream
from mixserver.wire.address import Address, parse_address

__all__ = ["Address", "Upstream", "parse_address", "too_long"]
