"""Shared memory that i-PI owns: opened, looked at, closed, never removed."""

from __future__ import annotations

import contextlib
import os
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
            except (OSError, ValueError) as error:  # ValueError: it is empty
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
    def whole(self) -> bool:
        """Whether none has been made smaller since it was opened: touching that would kill us."""
        files = [memory._fd for memory in self._open]  # type: ignore[attr-defined]
        sizes = [memory.size for memory in self._open]
        return all(os.fstat(file).st_size >= n for file, n in zip(files, sizes, strict=True))

    def check(self) -> None:
        """Before their memory is touched.

        Raises:
            ProtocolError: one has been made smaller.
        """
        if not self.whole:
            raise ProtocolError(
                "i-PI's shared memory has become smaller than it was when it was opened"
            )

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
