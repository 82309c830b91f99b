"""What a case is built into, and what it is refused for before anything is opened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixserver.build import build
from mixserver.config import load_case
from mixserver.errors import ConfigError

MINIMAL = Path(__file__).parents[1] / "inputs/minimal"
HYSTERESIS = "[region.hysteresis]\ntime_in = 2.0\ntime_out = 2.0\n[models.cheap]"


def _build(folder: Path, *changes: tuple[str, str], memory: Path | None = None) -> None:
    """Build the minimal case with its mix.toml changed."""
    text = (MINIMAL / "mix.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "mix.toml").write_text(text)
    (folder / "init.xyz").write_bytes((MINIMAL / "init.xyz").read_bytes())
    (folder / "records").mkdir()
    build(load_case(folder), folder / "records", memory=memory).recorder.close()


def test_the_memory_of_other_atoms_is_refused_with_the_cure(tmp_path: Path) -> None:
    memory = tmp_path / "region.json"
    memory.write_text(
        '{"0": {"evaluations": 3, "active": [256], "expensive": [1.0], "chosen": null, '
        '"summed": null, "samples": 0}}'
    )
    with pytest.raises(ConfigError, match=rf"not among the 256 atoms .* delete {memory}"):
        _build(tmp_path, ("[models.cheap]", HYSTERESIS), memory=memory)


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"0": 1}'])
def test_a_spoilt_memory_is_refused_with_the_cure(tmp_path: Path, text: str) -> None:
    memory = tmp_path / "region.json"
    memory.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"delete {memory}")):
        _build(tmp_path, ("[models.cheap]", HYSTERESIS), memory=memory)
