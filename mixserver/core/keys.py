"""CURVE keys in files: the server's own pair, a worker's own pair, and public keys of either.

The files have the format of ZeroMQ certificates (ZPL), so that czmq and pyzmq read them too. A file
with a secret is made with mode 0600, and is refused if others could read it. A secret is never part
of a message or of a repr. A public key on a list may name the one role that it is for.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.utils import z85

from mixserver.core.errors import ConfigError

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of keys: they are names of files."""
_LARGEST: Final = 4096
"""Bytes of a key file that are read."""
_LINE: Final = re.compile(r'^\s*(public|secret)-key\s*=\s*"(\S{40})"\s*$', re.MULTILINE)
_ROLE_LINE: Final = re.compile(r"^[ \t]*role[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
ROLES: Final = ("cheap", "expensive")
"""The roles that a key can be bound to."""
_PAIR_HEAD: Final = "# CURVE key pair with its SECRET key: keep this file private\n"
_PUBLIC_HEAD: Final = "# CURVE public key\n"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in ZeroMQ's text form (Z85, 40 characters each)."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> KeyPair:
        """A new pair from the system's random numbers."""
        return cls(*zmq.curve_keypair())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key in text form, and what it may be used for."""

    public: bytes
    role: str = ""
    """The only role for which its workers may join; "" for any."""


def secure_client(socket: zmq.Socket[Any], key: KeyPair, server: bytes) -> None:
    """Encrypt and authenticate a socket that will connect; call it before `connect`.

    Args:
        socket: any ZeroMQ socket.
        key: its own.
        server: public key of the server; no other server is spoken to.
    """
    socket.curve_publickey = key.public
    socket.curve_secretkey = key.secret
    socket.curve_serverkey = server


def write_secret_key(file: Path, pair: KeyPair) -> None:
    """Write a new file that only this user can read.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    text = f"{_PAIR_HEAD}metadata\ncurve\n{_line('public', pair.public)}"
    _write(file, text + _line("secret", pair.secret), 0o600)


def write_public_key(file: Path, public: bytes, role: str = "") -> None:
    """Write a new file that others may read.

    Args:
        file: to be made.
        public: the key.
        role: the only role that it is for; "" for any.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    bound = f'    role = "{role}"\n' if role else ""
    _write(file, f"{_PUBLIC_HEAD}metadata\n{bound}curve\n{_line('public', public)}", 0o644)


def read_secret_key(file: Path) -> KeyPair:
    """Read a key pair.

    Raises:
        ConfigError: it cannot be read, holds no key pair, or others can read or change it.
    """
    text, status = _read(file)
    mode = stat.S_IMODE(status.st_mode)
    mine = status.st_uid == os.getuid()
    # a secret that a container's engine mounts belongs to root and may be readable by all in it
    if mode & 0o022 or (mode & 0o077 and (mine or status.st_uid != 0)):
        raise ConfigError(
            f"{file} holds a secret key, but its mode {mode:04o} lets other users of this machine "
            f"read or change it. Unless one of them did: chmod 600 {file}; otherwise revoke it "
            "(mixserver keys revoke NAME) and make a new one"
        )
    found = dict(_LINE.findall(text))
    if "secret" not in found:
        hint = "; it holds a public key only" if "public" in found else ""
        raise ConfigError(f"{file} holds no secret key, as mixserver keys new NAME writes it{hint}")
    secret = found["secret"].encode()
    public = _public_of(secret, file)
    if found.get("public", public.decode()).encode() != public:
        raise ConfigError(
            f"{file}: its public key does not belong to its secret key; make a new one"
        )
    return KeyPair(public, secret)


def read_public_key(file: Path) -> bytes:
    """Read a public key, from its own file or from that of a pair.

    Raises:
        ConfigError: it cannot be read, or holds no public key.
    """
    return read_listed_key(file).public


def read_listed_key(file: Path) -> PublicKey:
    """Read a public key and its role.

    Raises:
        ConfigError: it cannot be read, or holds no public key or an unknown role.
    """
    text, _ = _read(file)
    found = dict(_LINE.findall(text))
    if "public" not in found:
        raise ConfigError(f"{file} holds no public key, as mixserver keys new NAME writes it")
    roles = [said.strip("\"'") for said in _ROLE_LINE.findall(text)]
    if len(roles) > 1 or not {*roles} <= {*ROLES}:
        raise ConfigError(
            f"{file} binds its key to the role {', '.join(map(repr, roles))}; roles are "
            f"{' and '.join(ROLES)}, and a key has one or, without a line of roles, all"
        )
    return PublicKey(checked_public(found["public"].encode(), file), *roles)


def checked_public(key: bytes, source: Path) -> bytes:
    """A public key in text form, checked.

    Raises:
        ConfigError: it is none.
    """
    try:
        size = len(z85.decode(key))
    except (KeyError, ValueError, ArithmeticError):
        size = 0
    if size != 32:
        raise ConfigError(f"{source} holds no CURVE key: expected 40 characters of Z85")
    return key


def read_keys(key: Path | None, server_key: Path | None) -> tuple[KeyPair, bytes] | None:
    """A client's own pair and its server's public key; None without either file.

    Args:
        key: file of the pair.
        server_key: file of the public key.

    Raises:
        ConfigError: only one file is named, or one cannot be used.
    """
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        raise ConfigError(
            "a server with keys needs both: --key FILE (the key of this program) and --server-key "
            "FILE (the server's server.pub)"
        )
    return read_secret_key(key), read_public_key(server_key)


def check_key_name(name: str) -> str:
    """A name that a key may have.

    Raises:
        ConfigError: it may not.
    """
    if NAME.fullmatch(name) is None or name == "server":
        raise ConfigError(
            f"{name!r} is not a name for a worker's key: use up to 64 letters, digits, '-', '_' "
            "and '.', beginning with a letter or digit (the name 'server' is the server's own)"
        )
    return name


def _public_of(secret: bytes, file: Path) -> bytes:
    try:
        return bytes(zmq.curve_public(secret))
    except (zmq.ZMQError, ValueError):
        raise ConfigError(f"{file} holds no CURVE key: expected 40 characters of Z85") from None


def _line(kind: str, key: bytes) -> str:
    return f'    {kind}-key = "{key.decode("ascii")}"\n'


def _read(file: Path) -> tuple[str, os.stat_result]:
    try:
        # not blocking: a pipe without a writer would be waited for
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{file} is not a regular file, so no key is read from it")
            text = stream.read(_LARGEST)
    except OSError as error:
        raise ConfigError(
            f"the key file {file} cannot be read ({error.strerror}); mixserver keys new NAME makes "
            "keys"
        ) from error
    return text.decode("utf-8", "replace"), status


def _write(file: Path, text: str, mode: int) -> None:
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
        with open(handle, "w", encoding="ascii") as stream:
            os.fchmod(handle, mode)  # whatever the umask
            stream.write(text)
            stream.flush()
            os.fsync(handle)
    except FileExistsError as error:
        raise ConfigError(
            f"{file} exists already, and keys are never overwritten: move it away, or name "
            "another file"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror})") from error
