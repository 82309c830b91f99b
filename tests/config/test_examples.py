"""The examples of mix.toml in inputs/ are right, and the full one is full."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mixserver import config as tables
from mixserver.config.load import load_case, parse

INPUTS = Path(__file__).parents[2] / "inputs"


@pytest.mark.parametrize("file", sorted(INPUTS.glob("*/mix.toml")), ids=lambda f: f.parent.name)
def test_every_example_is_read(file: Path) -> None:
    load_case(file)


def _keys(kind: type) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_the_full_example_names_every_key() -> None:
    full: dict[str, Any] = tomllib.loads((INPUTS / "full/mix.toml").read_text())
    assert set(full) == _keys(tables.Config)
    for table in ("upstream", "region", "mixing", "models", "workers", "limits", "record", "ipi"):
        kind = getattr(tables, table.capitalize())
        assert set(full[table]) == _keys(kind), table
    assert set(full["region"]["seeds"]) == _keys(tables.CriterionSeeds) | {"kind"}
    assert set(full["region"]["hysteresis"]) == _keys(tables.Hysteresis)
    assert set(full["models"]["expensive"]) == _keys(tables.ExpensiveModel)
    assert set(full["local"][0]) == _keys(tables.Local)


def test_the_full_example_states_the_defaults_as_they_are() -> None:
    text = (INPUTS / "full/mix.toml").read_text()
    config = parse(text)
    for name in ("upstream", "region", "mixing", "workers", "limits", "record", "ipi"):
        value = getattr(config, name)
        for field in msgspec.structs.fields(type(value)):
            lines = [
                line for line in text.splitlines() if line.startswith(f"{field.encode_name} = ")
            ]
            if not lines or "default" in lines[0] or field.default is msgspec.NODEFAULT:
                continue
            assert getattr(value, field.encode_name) == field.default, field.encode_name


@pytest.mark.parametrize(
    "seeds",
    [
        line.lstrip("# ").split("}")[0] + "}"
        for line in (INPUTS / "full/mix.toml").read_text().splitlines()
        if line.startswith("#   {")
    ],
)
def test_the_seeds_shown_in_comments_are_read(seeds: str) -> None:
    text = (INPUTS / "minimal/mix.toml").read_text()
    text = text.replace("follow = true", "follow = false")
    config = parse(text.replace('{ kind = "atoms", indices = [132] }', seeds))
    assert config.region is not None
