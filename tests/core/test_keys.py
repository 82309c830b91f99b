"""Files of keys: modes, what is refused, and that a secret is shown nowhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq.auth

from mixserver.core.errors import ConfigError
from mixserver.core.key_folder import KeyFolder
from mixserver.core.keys import (
    KeyPair,
    read_keys,
    read_listed_key,
    read_public_key,
    read_secret_key,
)


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    folder = KeyFolder(tmp_path / "keys")
    folder.new("gpu-1")
    return folder


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.usefixtures("_umask")
def test_secrets_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    file = folder.new("gpu-1")
    assert mode(folder.folder) == 0o700
    assert {mode(secret) for secret in (file, folder.server_key)} == {0o600}
    public = (folder.server_public, folder.workers / "gpu-1.pub")
    assert {mode(file) for file in public} == {0o644}


def test_pyzmq_reads_the_files(keys: KeyFolder) -> None:
    pair = read_secret_key(keys.folder / "gpu-1.key")
    assert zmq.auth.load_certificate(keys.folder / "gpu-1.key") == (pair.public, pair.secret)
    listed = keys.workers / "gpu-1.pub"
    assert zmq.auth.load_certificate(listed) == (read_public_key(listed), None)
    assert read_public_key(listed) == pair.public == zmq.curve_public(pair.secret)


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o660, 0o620, 0o602, 0o644])
def test_a_secret_that_others_could_read_or_change_is_refused(keys: KeyFolder, bits: int) -> None:
    for file in (keys.folder / "gpu-1.key", keys.server_key):
        file.chmod(bits)
        with pytest.raises(ConfigError, match=rf"mode {bits:04o} .*chmod 600"):
            read_secret_key(file)


def test_only_the_owner_may_have_it(keys: KeyFolder) -> None:
    for bits in (0o600, 0o400):
        (keys.folder / "gpu-1.key").chmod(bits)
        read_secret_key(keys.folder / "gpu-1.key")


def test_a_secret_is_shown_nowhere(keys: KeyFolder) -> None:
    pair = read_secret_key(keys.folder / "gpu-1.key")
    assert pair.secret.decode() not in f"{pair} {pair!r} {[pair]}"
    for file in (keys.folder / "gpu-1.key", keys.server_key):
        secret = read_secret_key(file).secret
        others = {f for f in keys.folder.rglob("*") if f.is_file()} - {file}
        assert not any(secret in other.read_bytes() for other in others)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no secret key"),
        ('public-key = "' + "a" * 40 + '"\n', "a public key only"),
        ('secret-key = "' + "~" * 40 + '"\n', "no CURVE key"),
        ('secret-key = "' + "a" * 39 + '"\n', "holds no secret key"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=said):
        read_secret_key(file)


def test_a_pair_of_two_keys_is_refused(keys: KeyFolder) -> None:
    file = keys.folder / "gpu-1.key"
    public = read_public_key(file).decode()
    file.write_text(file.read_text().replace(public, KeyPair.new().public.decode()))
    with pytest.raises(ConfigError, match="does not belong to its secret key"):
        read_secret_key(file)


def test_a_pipe_or_a_missing_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mixserver keys new"):
        read_secret_key(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match=r"not a regular file|cannot be read"):
            read_secret_key(file)


def test_one_file_of_two_is_not_enough(keys: KeyFolder) -> None:
    assert read_keys(None, None) is None
    assert read_keys(keys.folder / "gpu-1.key", keys.server_public) is not None
    for key, server in ((keys.folder / "gpu-1.key", None), (None, keys.server_public)):
        with pytest.raises(ConfigError, match="--server-key"):
            read_keys(key, server)


def test_keys_are_never_overwritten(keys: KeyFolder) -> None:
    before = {file: file.read_bytes() for file in keys.folder.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match="on the list already"):
        keys.new("gpu-1")
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.new("gpu-2", out=keys.server_key)
    assert before == {file: file.read_bytes() for file in keys.folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["", "server", "../x", "a/b", ".x", "-x", "a b", "é", "a" * 65])
def test_names_are_those_of_files(keys: KeyFolder, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a name"):
        keys.new(name)
    with pytest.raises(ConfigError, match="is not a name"):
        keys.revoke(name)


def test_a_revoked_key_is_kept_and_its_name_is_free(keys: KeyFolder) -> None:
    first = read_public_key(keys.workers / "gpu-1.pub")
    for _ in range(2):
        keys.revoke("gpu-1")
        (keys.folder / "gpu-1.key").unlink()
        keys.new("gpu-1")
    states = [(key.name, key.allowed) for key in keys.listed()]
    assert states == [("gpu-1", True), ("gpu-1", False), ("gpu-1.2", False)]
    assert first not in {key.public for key in keys.listed() if key.allowed}
    with pytest.raises(ConfigError, match=r"no key gpu-9 .* which has: gpu-1"):
        keys.revoke("gpu-9")


def test_a_key_can_be_bound_to_a_role(keys: KeyFolder) -> None:
    keys.new("gpu-2", role="expensive")
    assert {key.name: key.role for key in keys.listed()} == {"gpu-1": "", "gpu-2": "expensive"}
    listed = keys.workers / "gpu-2.pub"
    assert read_listed_key(listed).public == zmq.auth.load_certificate(listed)[0]
    listed.write_text(listed.read_text().replace("expensive", "dear"))
    with pytest.raises(ConfigError, match="role 'dear'; roles are cheap and expensive"):
        read_listed_key(listed)


@pytest.mark.parametrize("line", ["role = dear", 'role = ""', 'role = "cheap"  x', "role="])
def test_a_role_that_is_not_understood_never_means_any(keys: KeyFolder, line: str) -> None:
    keys.new("gpu-2", role="cheap")
    listed = keys.workers / "gpu-2.pub"
    listed.write_text(listed.read_text().replace('role = "cheap"', line))
    with pytest.raises(ConfigError, match="binds its key to the role"):
        read_listed_key(listed)
    listed.write_text(listed.read_text().replace(line, "role = cheap"))
    assert read_listed_key(listed).role == "cheap"  # ZPL needs no quotes


def test_a_folder_without_keys_tells_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mixserver keys new NAME"):
        KeyFolder(tmp_path).server_pair()
    with pytest.raises(ConfigError, match="mixserver keys new NAME"):
        KeyFolder(tmp_path).listed()
