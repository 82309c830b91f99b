"""The session with i-PI, or with ASE's SocketIOCalculator: requests in, replies out.

`connection` runs one connection on a thread of its own, `exchange` the protocol on it while it
lasts. `session` answers what the connections request. `repeated_requests` lets an evaluation
outlive the connection that requested it.
"""

from mixserver.ipi.session.session import Session
from mixserver.wire.address import Address, parse_address

__all__ = ["Address", "Session", "parse_address"]
