"""Atomic file writes: readers see the old or the new content, whatever happens while writing."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic_writer(file: Path) -> Iterator[IO[bytes]]:
    """A stream for the new content of a file, which replaces it at the end of this context.

    The content goes to a temporary file with a unique name in the same folder, so that concurrent
    writers do not interfere. A link is replaced, not followed.

    Args:
        file: need not exist; unchanged if writing fails or the context raises.

    Raises:
        OSError: it cannot be written.
    """
    new = file.with_name(f".{file.name}.{uuid.uuid4().hex[:12]}.new")
    try:
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as stream:
            yield stream
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_atomically(file: Path, content: bytes) -> None:
    """Replace the content of a file in one step; a link is replaced, not followed.

    Raises:
        OSError: it cannot be written; the previous content is unchanged.
    """
    with atomic_writer(file) as stream:
        stream.write(content)
