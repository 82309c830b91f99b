"""What strangers may send to the addresses of a server, at rates that leave the machine alone.

A program of its own, driven by `doors.py`: it reads lines "KIND SECONDS", attacks for so long, and
prints how many times it sent or connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from mutations import frames, header
from targets import worker_corpus
from valid_messages import hello

from mixserver.wire import status, worker, worker_frames

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Of ZMTP 3.0."""
_TYPE: Final = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
READY: Final = b"\x04" + bytes([len(_TYPE)]) + _TYPE
_MANY: Final = 1000


@dataclass
class Attack:
    """One kind of attack at work.

    Args:
        places: ports of workers, status and stock clients.
        rng: of all that is random.
        until: time.monotonic() at which it ends.
    """

    places: dict[str, int]
    rng: random.Random
    until: float
    count: int = 0

    @property
    def on(self) -> bool:
        return time.monotonic() < self.until

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self.until - time.monotonic())))

    @asynccontextmanager
    async def connected(
        self, place: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection; whatever happens to it is no matter.

        Raises:
            OSError: it was reset at once.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.places[place])
        self.count += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                yield reader, writer
            finally:
                writer.transport.abort()

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(max(0.05, self.until - time.monotonic())):
            await writer.drain()
        self.count += 1

    async def again(self, once: Callable[[], Awaitable[None]], rate: float) -> None:
        """Do something so often in a second."""
        while self.on:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await once()
            await self.pause(1.0 / rate)


def message(parts: list[bytes]) -> bytes:
    """A message of ZMTP."""
    made = b""
    for at, part in enumerate(parts):
        more = int(at + 1 < len(parts))
        made += struct.pack(">BQ", 2 | more, len(part)) + part
    return made


async def noise(attack: Attack, place: str) -> None:
    """Random bytes, HTTP, the beginning of a greeting."""

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            kinds = (attack.rng.randbytes(200), b"GET / HTTP/1.1\r\n\r\n", GREETING[:20], GREETING)
            await attack.send(writer, attack.rng.choice(kinds) + attack.rng.randbytes(30))

    await attack.again(once, 40)


async def lengths(attack: Attack, place: str) -> None:
    """Frames and commands that announce up to 2^64 bytes."""

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            size = attack.rng.choice((1 << 20, 1 << 22, 1 << 29, 1 << 31, 1 << 62, (1 << 64) - 1))
            flags = attack.rng.choice((2, 3, 6, 0xFF))
            await attack.send(
                writer, GREETING + READY + struct.pack(">BQ", flags, size) + bytes(99)
            )
            await attack.pause(0.2)

    await asyncio.gather(*(attack.again(once, 5) for _ in range(8)))


async def slow(attack: Attack, place: str) -> None:
    """200 connections that send one byte of a greeting now and then."""

    async def one() -> None:
        async with attack.connected(place) as (_, writer):
            for byte in GREETING + READY:
                if attack.on:
                    await attack.send(writer, bytes([byte]))
                    await attack.pause(2.0 * attack.rng.random())

    await asyncio.gather(*(one() for _ in range(200)), return_exceptions=True)


async def idle(attack: Attack, place: str) -> None:
    """1000 connections that say nothing."""

    async def one() -> None:
        await attack.pause(attack.rng.random())
        async with attack.connected(place):
            await attack.pause(60.0)

    await asyncio.gather(*(one() for _ in range(_MANY)), return_exceptions=True)


async def endless(attack: Attack, place: str) -> None:
    """One message whose last part never comes, 4 MB/s."""

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            await attack.send(writer, GREETING + READY)
            size = attack.rng.choice((0, 1, 1 << 10, 1 << 16))
            parts = struct.pack(">BQ", 3, size) + bytes(size)
            while attack.on:
                await attack.send(writer, parts * max(1, (1 << 16) // len(parts)))
                await attack.pause(1 / 64)

    await attack.again(once, 20)


async def messages(attack: Attack, place: str) -> None:
    """Messages that are nearly right, 150 a second; replies are not read."""

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            await attack.send(writer, GREETING + READY)
            for _ in range(50):
                if place == "status":
                    made = [header(attack.rng, status.encode(status.StatusQuery()))]
                else:
                    made = frames(attack.rng, attack.rng.choice(worker_corpus()))
                await attack.send(writer, message(made or [b""]))
                await attack.pause(1 / 30)

    await asyncio.gather(*(attack.again(once, 1) for _ in range(5)))


async def strangers(attack: Attack, place: str) -> None:
    """Good Hellos of another model, heartbeats without a Hello, under many names."""

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            await attack.send(writer, GREETING + READY)
            told = hello() if attack.rng.random() < 0.5 else worker.Heartbeat(job=3)
            for _ in range(20):
                await attack.send(
                    writer, message([bytes(part) for part in worker_frames.encode(told)])
                )
                await attack.pause(1 / 40)

    await asyncio.gather(*(attack.again(once, 2) for _ in range(4)))


async def unread(attack: Attack, place: str) -> None:
    """One connection asks again and again and never reads: queries, or what is refused."""

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            await attack.send(writer, GREETING + READY)
            asked = status.StatusQuery() if place == "status" else worker.Heartbeat()
            packed = (
                status.encode(asked)
                if isinstance(asked, status.StatusQuery)
                else bytes(worker_frames.encode(asked)[0])
            )
            while attack.on:
                await attack.send(writer, message([packed]))
                await attack.pause(1 / 150)

    await attack.again(once, 5)


async def drivers(attack: Attack, place: str) -> None:
    """Clients that are none: forces unasked, absurd counts, endless NEEDINIT, half messages."""
    pad = 12

    async def once() -> None:
        async with attack.connected(place) as (_, writer):
            number = struct.pack("<i", attack.rng.choice((-1, 2, (1 << 31) - 1, -(1 << 31))))
            kinds = (
                b"READY".ljust(pad) + b"FORCEREADY".ljust(pad) + bytes(8) + number,
                b"NEEDINIT".ljust(pad) * 200,
                b"READY".ljust(pad),
                b"REA",
                b"FORCEREADY".ljust(pad) * 3,
                attack.rng.randbytes(64),
            )
            await attack.send(writer, attack.rng.choice(kinds))
            await attack.pause(0.3 * attack.rng.random())

    await asyncio.gather(*(attack.again(once, 10) for _ in range(4)))


KINDS: Final[dict[str, tuple[Callable[[Attack, str], Awaitable[None]], str]]] = {
    f"{kind.__name__} at {place}": (kind, place)
    for kind, places in (
        (noise, ("workers", "status", "clients")),
        (lengths, ("workers", "status")),
        (slow, ("workers", "status", "clients")),
        (idle, ("workers", "status", "clients")),
        (endless, ("workers", "status")),
        (messages, ("workers", "status")),
        (strangers, ("workers",)),
        (unread, ("workers", "status")),
        (drivers, ("clients",)),
    )
    for place in places
}


async def main() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ports = [int(text) for text in sys.argv[1:4]]
    places = dict(zip(("workers", "status", "clients"), ports, strict=True))
    rng = random.Random(int(sys.argv[4]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, _, seconds = line.strip().rpartition(" ")
        kind, place = KINDS[name]
        attack = Attack(places, rng, time.monotonic() + float(seconds))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(seconds) + 5.0):
                await kind(attack, place)
        sys.stdout.write(f"{attack.count}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
