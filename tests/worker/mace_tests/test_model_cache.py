"""Converted models on disk: made once, checked when read, never half written."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest
from mixserver_worker.engines.symmetrix.model_cache import cached_file

CONTENT = b'{"model": 1}'


class Maker:
    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.content


def test_made_once_and_kept(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        with cached_file(tmp_path / "new" / "folder", "key", make) as file:
            assert file.read_bytes() == CONTENT
    assert make.calls == 1
    with cached_file(tmp_path / "new" / "folder", "other", Maker(b"2")) as file:
        assert file.read_bytes() == b"2"


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], b'{"model": 2}', CONTENT + b"\n"])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker()
    with cached_file(tmp_path, "key", make) as file:
        pass
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING), cached_file(tmp_path, "key", make) as again:
        assert again.read_bytes() == CONTENT
    assert make.calls == 2
    assert "is damaged: the model is converted again" in caplog.text
    with cached_file(tmp_path, "key", make):
        assert make.calls == 2


def test_many_writers_at_the_same_time(tmp_path: Path) -> None:
    found: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            with cached_file(tmp_path, "key", Maker()) as file:
                found.append(file.read_bytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 80
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("blocked", ["a file in the way", "not writable"])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, blocked: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    if blocked == "not writable":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.mkdir(mode=0o500)
    else:
        folder.write_text("")
    with caplog.at_level(logging.WARNING), cached_file(folder, "key", Maker()) as file:
        assert file.read_bytes() == CONTENT
    assert not file.exists()
    assert "--cache" in caplog.text


def test_an_error_of_the_converter_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"), cached_file(tmp_path, "key", fail):
        pass
    assert not list(tmp_path.iterdir())
