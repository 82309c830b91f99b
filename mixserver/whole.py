"""Files that are written whole or not at all, however many write them at a time."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def whole(file: Path) -> Iterator[IO[bytes]]:
    """A stream for the content of a file, which takes its place at the end of this context.

    It is never seen half written: what is written goes into another file of the same folder, with
    a name of its own. A link is replaced, not followed.

    Args:
        file: it may exist; where writing fails or this context is left by an exception, it stays
            as it was.

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


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that it is never seen half written; a link is replaced, not followed.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    with whole(file) as stream:
        stream.write(content)
