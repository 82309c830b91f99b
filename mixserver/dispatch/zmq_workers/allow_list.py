"""The public keys that may connect, from the files of a folder; read again when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from mixserver.core.errors import ConfigError
from mixserver.core.keys import NAME, PublicKey, read_listed_key

log = structlog.get_logger(__name__)

_MOST_KEYS: Final = 10_000


class AllowList:
    """Names of keys by public key.

    A list that cannot be read any more, or a file of it that holds no key, is reported once and
    leaves what was known before: a file system that fails for a minute ends no session.

    Args:
        folder: holds NAME.pub files.
        clock: seconds that never go backwards.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = folder
        """Holds the files."""
        self._clock = clock
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._files: dict[str, PublicKey] = {}
        self._names: dict[bytes, str] = {}
        self._complained = ""
        self._read_at = -float("inf")
        self.refresh()

    def name(self, public: bytes) -> str | None:
        """The name of a key; None if it is not on the list."""
        return self._names.get(public)

    def role(self, name: str) -> str:
        """The only role that a key of the list is for; "" for any."""
        key = self._files.get(name)
        return "" if key is None else key.role

    def names(self) -> frozenset[str]:
        """All names on the list."""
        return frozenset(self._files)

    def refresh(self, every_s: float = 0.0) -> bool:
        """Look whether files have changed; returns whether the list has.

        Args:
            every_s: do nothing if that was done less than so long ago.
        """
        now = self._clock()
        if now - self._read_at < every_s:
            return False
        self._read_at = now
        try:
            seen = self._states()
        except OSError as error:
            self._complain(f"{self.folder} cannot be read ({error.strerror})")
            return False
        if seen == self._seen:
            return False
        files = {}
        problem = ""
        for name, state in seen.items():
            if self._seen.get(name) == state and name in self._files:
                files[name] = self._files[name]
                continue
            try:
                files[name] = read_listed_key(self.folder / f"{name}.pub")
            except ConfigError as error:
                problem = str(error)
        self._seen, self._files = seen, files
        self._names = {key.public: name for name, key in files.items()}
        self._complain(problem)
        return True

    def _states(self) -> dict[str, tuple[int, int, int]]:
        """What tells whether a file is still the same one with the same content, by name."""
        states: dict[str, tuple[int, int, int]] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                name, _, kind = entry.name.rpartition(".")
                if kind == "pub" and NAME.fullmatch(name) and len(states) < _MOST_KEYS:
                    status = entry.stat()
                    states[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return states

    def _complain(self, problem: str) -> None:
        if problem and problem != self._complained:
            log.warning("the list of keys is not as it should be", problem=problem)
        self._complained = problem
