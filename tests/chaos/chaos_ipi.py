"""An i-PI of our own that integrates the forces it gets, and keeps the bits of every answer."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from mixserver.core.units import ANGSTROM

_STEP: Final = 150.0
"""Atomic units of time: 3.6 fs."""
_MASS: Final = 39.948 * 1822.888
_MELTED: Final = 90.0
"""K, of the velocities at the beginning: atoms pass the criterion often."""


class Integrator:
    """Velocity Verlet in bohr, hartree and electron masses; the same forces, the same bits."""

    def __init__(self, positions: np.ndarray, cell: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.positions = positions * ANGSTROM
        self.cell = cell * ANGSTROM
        self.velocities = rng.normal(0.0, (3.1668e-6 * _MELTED / _MASS) ** 0.5, positions.shape)
        self.velocities -= self.velocities.mean(axis=0)
        self._forces: np.ndarray | None = None

    def take(self, forces: np.ndarray) -> None:
        """Go on with the forces at the present positions."""
        if self._forces is not None:
            self.velocities += 0.5 * _STEP / _MASS * forces
        self.velocities += 0.5 * _STEP / _MASS * forces
        self.positions += _STEP * self.velocities
        self._forces = forces


class ChaosIpi:
    """Listens as i-PI does and asks for forces, one configuration at a time.

    Args:
        path: of the unix socket.
        integrator: makes the configurations.
    """

    def __init__(self, path: Path, integrator: Integrator) -> None:
        self.digests: list[str] = []
        """One per answer, of all bits of energy, forces and virial."""
        self.energies: list[float] = []
        self.seconds: list[float] = []
        """How long each answer took."""
        self._path = path
        self._integrator = integrator
        self._connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )
        self._server: asyncio.Server | None = None
        self._peer: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected.put((reader, writer))

        self._server = await asyncio.start_unix_server(accept, self._path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._peer is not None:
            self._peer[1].write(b"EXIT        ")
            self._peer[1].close()
        if self._server is not None:
            self._server.close()

    async def evaluate(self) -> None:
        """Ask for one answer, and make a step with it."""
        if self._peer is None:
            self._peer = await self._connected.get()
        reader, writer = self._peer
        writer.write(b"STATUS      ")
        if (status := await reader.readexactly(12)).strip() == b"NEEDINIT":
            writer.write(b"INIT        " + struct.pack("<ii", 0, 1) + b" STATUS      ")
            status = await reader.readexactly(12)
        assert status.strip() == b"READY", status
        at = self._integrator
        cell = at.cell.T.tobytes() + np.linalg.inv(at.cell.T).tobytes()
        n = len(at.positions)
        began = time.perf_counter()
        writer.write(
            b"POSDATA     " + cell + struct.pack("<i", n) + at.positions.tobytes() + b"GETFORCE    "
        )
        header = await reader.readexactly(12)
        assert header == b"FORCEREADY  ", header
        numbers = await reader.readexactly(8 + 4 + 24 * n + 72)
        (extra,) = struct.unpack("<i", await reader.readexactly(4))
        await reader.readexactly(extra)
        self.seconds.append(time.perf_counter() - began)
        self.digests.append(hashlib.sha256(numbers).hexdigest())
        self.energies.append(struct.unpack("<d", numbers[:8])[0])
        at.take(np.frombuffer(numbers[12 : 12 + 24 * n]).reshape(n, 3).copy())
