from __future__ import annotations

from pathlib import Path

import pytest

from mixserver.core.near_files import did_you_mean, folders_with


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("silicon_vacany", ["silicon_vacancy"]),
        ("silicon_vacany/mix.toml", ["silicon_vacancy/mix.toml"]),
        ("silicon_vacancy/mx.toml", ["silicon_vacancy/mix.toml"]),
        ("helium", ["inputs/helium"]),
        ("nothing_like_it", []),
        ("silicon_vacancy/a/b/c", []),
    ],
)
def test_near_names_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: list[str]
) -> None:
    for folder in ("silicon_vacancy", "inputs/helium", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mix.toml").touch()
    expected = f"; did you mean {' or '.join(meant)}?" if meant else ""
    monkeypatch.chdir(tmp_path)
    assert did_you_mean(Path(given)) == expected
    absolute = did_you_mean(tmp_path / given)
    assert absolute == expected.replace("mean ", f"mean {tmp_path}/")
    assert did_you_mean(Path(given), lambda place: False) == ""
    assert folders_with(Path(), "mix.toml") == [Path("silicon_vacancy")]
