"""The wire: bytes to messages and back. No sockets, no clocks, no physics.

`ipi` speaks i-PI's driver protocol, both directions; `worker` speaks mixserver's own protocol with
its workers. README.md beside this file draws both.
"""
