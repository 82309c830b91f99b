"""Shared-memory segments owned by i-PI: opened, checked and closed, never removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

from mixserver.core.errors import ProtocolError


class SharedSegments:
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
            except (OSError, ValueError) as error:  # ValueError: it is empty
                self.close()
                raise ProtocolError(
                    f"i-PI names shared memory {name!r}, which cannot be opened here ({error}); "
                    "mode='shm' needs i-PI and mixserver on one machine and in one container"
                ) from error
            # Before Python 3.13 a process that opens a segment is registered as its owner, and
            # would remove i-PI's segment at its exit.
            with contextlib.suppress(KeyError):
                resource_tracker.unregister(f"/{name}", "shared_memory")
            self._open.append(memory)

    @property
    def intact(self) -> bool:
        """Whether none has shrunk since it was opened: accessing it would kill this process."""
        files = [memory._fd for memory in self._open]  # type: ignore[attr-defined]
        sizes = [memory.size for memory in self._open]
        return all(os.fstat(file).st_size >= n for file, n in zip(files, sizes, strict=True))

    def check(self) -> None:
        """Check before their memory is accessed.

        Raises:
            ProtocolError: one has shrunk.
        """
        if not self.intact:
            raise ProtocolError(
                "i-PI's shared memory has become smaller than it was when it was opened"
            )

    @property
    def buffers(self) -> list[memoryview]:
        """The memory, in the order of the names."""
        return [memory.buf for memory in self._open if memory.buf is not None]

    def close(self) -> None:
        """Close them; existing views keep their memory."""
        for memory in self._open:
            with contextlib.suppress(BufferError):
                memory.close()
        self._open.clear()
