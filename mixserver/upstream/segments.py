"""Shared memory that i-PI owns: opened, looked at, closed, never removed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

from mixserver.errors import ProtocolError


class Segments:
    """The open shared-memory segments of one connection."""

    def __init__(self, names: Sequence[str]) -> None:
        """Open segments by name.

        Raises:
            ProtocolError: there is no such segment here.
        """
        self._open: list[SharedMemory] = []
        for name in names:
            try:
                memory = SharedMemory(name=name)
            except OSError as error:
                self.close()
                raise ProtocolError(
                    f"i-PI names shared memory {name!r}, which cannot be opened here ({error}); "
                    "mode='shm' needs i-PI and mixserver on one machine and in one container"
                ) from error
            # Before Python 3.13 whoever opens a segment is taken for its owner, and its exit
            # would remove i-PI's.
            with contextlib.suppress(KeyError):
                resource_tracker.unregister(f"/{name}", "shared_memory")
            self._open.append(memory)

    @property
    def buffers(self) -> list[memoryview]:
        """The memory, in the order of the names."""
        return [memory.buf for memory in self._open if memory.buf is not None]

    def close(self) -> None:
        """Let go of them; whoever still holds a view keeps its memory until that is gone."""
        for memory in self._open:
            with contextlib.suppress(BufferError):
                memory.close()
        self._open.clear()
