"""The folder of keys of a server: its own pair, and the list of workers that may connect.

server.key          the server's key pair (mode 0600)
server.pub          its public key, which every worker needs
NAME.key            a worker's key pair (mode 0600), until it is moved to that worker's machine
workers/NAME.pub    the workers that may connect
revoked/NAME.pub    those that no longer may
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixserver.core.errors import ConfigError
from mixserver.core.keys import (
    NAME,
    KeyPair,
    check_key_name,
    read_listed_key,
    read_secret_key,
    write_public_key,
    write_secret_key,
)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One key of a folder, for people."""

    name: str
    allowed: bool
    """False if it was revoked."""
    public: bytes
    role: str = ""
    """The only role that it is for; "" for any."""


class KeyFolder:
    """The files of one folder; see the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_key = folder / "server.key"
        self.server_public = folder / "server.pub"
        self.workers = folder / "workers"
        self.revoked = folder / "revoked"

    def server_pair(self) -> KeyPair:
        """The server's own pair.

        Raises:
            ConfigError: there is none, or it cannot be used.
        """
        if not self.server_key.exists():
            raise ConfigError(
                f"{self.server_key} does not exist; make keys for the server and a worker with: "
                f"mixserver keys new NAME --keys {self.folder}"
            )
        return read_secret_key(self.server_key)

    def new(self, name: str, out: Path | None = None, role: str = "") -> Path:
        """Make a worker's key and put it on the list; the first time, make the server's too.

        Args:
            name: of the key.
            out: file for the pair; by default NAME.key in this folder.
            role: the only role for which its workers may join; "" for any.

        Returns:
            The file with the pair.

        Raises:
            ConfigError: the name is taken or no name, or a file cannot be written.
        """
        listed = self.workers / f"{check_key_name(name)}.pub"
        if listed.exists():
            raise ConfigError(
                f"a key {name} is on the list already ({listed}): choose another name, or revoke "
                f"it first with mixserver keys revoke {name} --keys {self.folder}"
            )
        self._make_folders()
        self._make_server_pair()
        pair, file = KeyPair.new(), out or self.folder / f"{name}.key"
        write_secret_key(file, pair)
        try:
            _put(listed, pair.public, role)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        return file

    def revoke(self, name: str) -> Path:
        """Take a key off the list.

        Returns:
            Where its public key is kept.

        Raises:
            ConfigError: it is not on the list, or files cannot be changed.
        """
        listed = self.workers / f"{check_key_name(name)}.pub"
        if not listed.exists():
            known = ", ".join(sorted(file.stem for file in _key_files(self.workers))) or "none"
            raise ConfigError(f"no key {name} is on the list {self.workers}, which has: {known}")
        kept = self.revoked / listed.name
        count = 1
        while kept.exists():
            count += 1
            kept = self.revoked / f"{name}.{count}.pub"
        try:
            self.revoked.mkdir(mode=0o700, exist_ok=True)
            listed.rename(kept)
        except OSError as error:
            raise ConfigError(f"{listed} cannot be moved to {kept} ({error.strerror})") from error
        return kept

    def listed(self) -> list[ListedKey]:
        """All keys, first those on the list.

        Raises:
            ConfigError: the folder has no list, or a file of it holds no key.
        """
        if not self.workers.is_dir():
            raise ConfigError(f"{self.folder} has no keys; make one with: mixserver keys new NAME")
        return [
            ListedKey(file.stem, allowed, key.public, key.role)
            for folder, allowed in ((self.workers, True), (self.revoked, False))
            for file in sorted(_key_files(folder), key=lambda file: file.stem)
            for key in (read_listed_key(file),)
        ]

    def _make_folders(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.workers.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{error.filename} cannot be made ({error.strerror})") from error

    def _make_server_pair(self) -> None:
        if not self.server_key.exists():
            write_secret_key(self.server_key, KeyPair.new())
        if not self.server_public.exists():
            write_public_key(self.server_public, read_secret_key(self.server_key).public)


def _key_files(folder: Path) -> Iterator[Path]:
    """Files of public keys; hidden ones are not complete yet."""
    return (file for file in folder.glob("*.pub") if NAME.fullmatch(file.stem))


def _put(file: Path, public: bytes, role: str) -> None:
    """A new file that a running server sees as a whole or not at all."""
    new = file.with_name(f".{uuid.uuid4().hex[:12]}.new")
    try:
        write_public_key(new, public, role)
        os.link(new, file)  # fails if another process was faster
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
