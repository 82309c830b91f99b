"""What a case is built into, and what it is refused for before anything is opened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixserver.config import load_case
from mixserver.core.errors import ConfigError
from mixserver.server.build import build, build_policy

MINIMAL = Path(__file__).parents[2] / "inputs/minimal"
REMEMBERING = (
    ("follow = true", ""),
    ('kind = "energy"', 'kind = "force"'),
    ("[models.cheap]", "[region.hysteresis]\ntime_in = 2.0\ntime_out = 2.0\n[models.cheap]"),
)


def _build(folder: Path, *changes: tuple[str, str], earlier: Path | None = None) -> None:
    """Build the minimal case with its mix.toml changed."""
    text = (MINIMAL / "mix.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "mix.toml").write_text(text)
    (folder / "init.xyz").write_bytes((MINIMAL / "init.xyz").read_bytes())
    (folder / "records").mkdir()
    build(load_case(folder), folder / "records", earlier=earlier).recorder.close()


def test_the_memory_of_other_atoms_is_refused_with_the_cure(tmp_path: Path) -> None:
    memory = tmp_path / "region.json"
    memory.write_text(
        '{"0": {"evaluations": 3, "active": [256], "expensive": [1.0], "chosen": null, '
        '"summed": null, "samples": 0}}'
    )
    with pytest.raises(ConfigError, match=rf"not among the 256 atoms .* delete {memory}"):
        _build(tmp_path, *REMEMBERING, earlier=tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), ""),
        ([("follow = true", "")], "did not save lambda"),
        (REMEMBERING, "did not save the state of its regions"),
    ],
)
def test_a_memory_that_was_not_saved_is_told_where_there_was_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[tuple[str, str]],
    said: str,
) -> None:
    _build(tmp_path, *changes, earlier=tmp_path)
    shown = capsys.readouterr().out
    assert said in shown
    assert shown.count("did not save") == bool(said)


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"0": 1}'])
def test_a_spoilt_memory_is_refused_with_the_cure(tmp_path: Path, text: str) -> None:
    memory = tmp_path / "region.json"
    memory.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"delete {memory}")):
        _build(tmp_path, *REMEMBERING, earlier=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[models.cheap]", '[models.cheap]\nspecies = ["Kr"]', "has Ar, but models.cheap.species"),
        (
            "[models.expensive]",
            '[models.expensive]\nspecies = ["Kr", "He"]',
            "has Ar, but models.expensive.species",
        ),
        ("[models.cheap]", '[models.cheap]\nspecies = ["Q"]', "'Q' is not an element symbol"),
        ('"unix:minimal"', '"nonsense"', "'nonsense' is not an address"),
        ('"unix:minimal"', '["unix:minimal", "h:99999"]', "'h:99999' is not an address"),
        ("[models.cheap]", '[workers]\ndoor = "nonsense"\n[models.cheap]', "workers.door = "),
        ("[models.cheap]", '[workers]\ndoor = "tcp://here"\n[models.cheap]', "workers.door = "),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_opened(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        _build(tmp_path, (old, new))


def test_clients_at_no_address_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    by_force = (('kind = "energy" ', 'kind = "force" '), ("follow = true", "follow = false"))
    nonsense = ("[models.cheap]", '[workers]\nclients = "nonsense"\n[models.cheap]')
    with pytest.raises(ConfigError, match="is not an address"):
        _build(tmp_path, nonsense, *by_force)


def test_elements_that_are_known_are_taken(tmp_path: Path) -> None:
    _build(tmp_path, ("[models.cheap]", '[models.cheap]\nspecies = ["Ar"]'))


def test_the_first_worker_is_waited_for_as_long_as_configured(tmp_path: Path) -> None:
    text = (MINIMAL / "mix.toml").read_text()
    (tmp_path / "mix.toml").write_text(f"{text}\n[workers]\nfirst_worker_s = 7.0\n")
    assert build_policy(load_case(tmp_path).config).first_worker_s == 7.0
