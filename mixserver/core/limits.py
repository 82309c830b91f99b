"""Limits of the system that a program runs into, in words with their cure."""

from __future__ import annotations

import errno
import resource
from typing import Final

from mixserver.core.errors import ConfigError

LEAST_FILES: Final = 64
"""Open files that any program needs; the ZeroMQ library aborts where it gets too few."""
_ENOUGH_FILES: Final = 4096
CURES: Final = {
    errno.EMFILE: " (raise the limit of open files: ulimit -n 1024)",
    errno.EAGAIN: " (raise the limit of processes: ulimit -u)",
    errno.ENOMEM: " (free memory, or raise the limit: ulimit -v, --mem of Slurm)",
}
"""What to do about an error number, where a process is started."""
_NO_MAPPING: Final = "failed to map segment"
"""What the loader of shared libraries says."""
_NO_THREAD: Final = "can't start new thread"


def ensure_open_files() -> None:
    """Raise the soft limit of open files as far as the hard one allows, up to what is plenty.

    Raises:
        ConfigError: the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    plenty = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < plenty:
        resource.setrlimit(resource.RLIMIT_NOFILE, (plenty, hard))
    if plenty < LEAST_FILES:
        raise ConfigError(
            f"only {plenty} files may be open at a time, but at least {LEAST_FILES} are needed"
            f"{CURES[errno.EMFILE]}"
        )


def limit_message(error: BaseException) -> str:
    """What to tell of an error that comes from a limit of the system; "" if it does not."""
    number = getattr(error, "errno", None)
    unmapped = isinstance(error, ImportError) and _NO_MAPPING in str(error)
    if isinstance(error, MemoryError) or unmapped:
        return f"there is no memory left{CURES[errno.ENOMEM]}"
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return (
            "no thread can be started: raise the limit of memory (ulimit -v, --mem of Slurm) or "
            "that of processes and threads (ulimit -u)"
        )
    return f"{error}{CURES[number]}" if number in (errno.EMFILE, errno.ENOMEM) else ""
