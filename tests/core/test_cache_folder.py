"""The folder of the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixserver.core.cache_folder import cache_folder


def test_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MIXSERVER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mixserver"
    monkeypatch.setenv("MIXSERVER_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
