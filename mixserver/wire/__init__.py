"""Wire formats: bytes to messages and back. No sockets, no clocks, no physics.

`ipi` and its siblings implement i-PI's driver protocol, both sides; `worker` is mixserver's own
protocol with its workers; `status` asks a running server how it is. docs/reference/wire.md
documents them. Names are i-PI's: a driver is what answers i-PI, so `ipi_driver.Driver` is mixserver
itself and `ipi_server.Client` a stock client.
"""

from typing import TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview
"""A piece of a message."""
