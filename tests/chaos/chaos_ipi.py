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
    """Velocity Verlet in bohr, hartree and electron masses; the same forces, the same bits.

    Args:
        positions: (n, 3) Å, where every bead begins.
        cell: (3, 3) Å.
        seed: of the velocities.
        beads: independent trajectories, all of which ask in one batch.
    """

    def __init__(
        self, positions: np.ndarray, cell: np.ndarray, seed: int, *, beads: int = 1
    ) -> None:
        rng = np.random.default_rng(seed)
        self.positions = np.repeat(positions[None] * ANGSTROM, beads, axis=0)
        self.cell = cell * ANGSTROM
        width = (3.1668e-6 * _MELTED / _MASS) ** 0.5
        self.velocities = rng.normal(0.0, width, self.positions.shape)
        self.velocities -= self.velocities.mean(axis=1, keepdims=True)
        self._forces: np.ndarray | None = None

    def take(self, forces: np.ndarray) -> None:
        """Go on with the forces at the present positions."""
        if self._forces is not None:
            self.velocities += 0.5 * _STEP / _MASS * forces
        self.velocities += 0.5 * _STEP / _MASS * forces
        self.positions += _STEP * self.velocities
        self._forces = forces


class ChaosIpi:
    """Listens as i-PI does and asks for forces, one configuration or one batch at a time.

    Args:
        path: of the unix socket.
        integrator: makes the configurations.
    """

    def __init__(self, path: Path, integrator: Integrator) -> None:
        self.digests: list[str] = []
        """One per answer, of all bits of energy, forces and virial."""
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
        at = self._integrator
        beads, n, _ = at.positions.shape
        parameters = f"batch_size:{beads}".encode() if beads > 1 else b" "
        writer.write(b"STATUS      ")
        if (status := await reader.readexactly(12)).strip() == b"NEEDINIT":
            init = struct.pack("<ii", 0, len(parameters)) + parameters
            writer.write(b"INIT        " + init + b"STATUS      ")
            status = await reader.readexactly(12)
        assert status.strip() == b"READY", status
        cells = beads * (at.cell.T.tobytes() + np.linalg.inv(at.cell.T).tobytes())
        count = struct.pack("<i", n)
        head = cells + count if beads == 1 else count + cells
        began = time.perf_counter()
        writer.write(b"POSDATA     " + head + at.positions.tobytes() + b"GETFORCE    ")
        header = await reader.readexactly(12)
        assert header == b"FORCEREADY  ", header
        start = 8 * beads + 4
        numbers = await reader.readexactly(start + beads * (24 * n + 72))
        for _ in range(beads):
            (extra,) = struct.unpack("<i", await reader.readexactly(4))
            await reader.readexactly(extra)
        self.seconds.append(time.perf_counter() - began)
        self.digests.append(hashlib.sha256(numbers).hexdigest())
        forces = np.frombuffer(numbers[start : start + 24 * beads * n])
        at.take(forces.reshape(at.positions.shape).copy())
