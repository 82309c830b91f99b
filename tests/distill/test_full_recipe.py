"""The full example of distill.toml names every key, with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mixserver.distill.config import schema as recipe
from mixserver.distill.config.load import load_project, parse_recipe

INPUTS = Path(__file__).parents[2] / "inputs"
TEXT = (INPUTS / "full/distill.toml").read_text()
TABLES = [
    field.name
    for field in msgspec.structs.fields(recipe.Recipe)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
]


def test_there_are_tables() -> None:
    assert {"expensive", "potential", "soft", "given", "fit", "sweep"} <= set(TABLES)


def test_it_names_every_key() -> None:
    full: dict[str, Any] = tomllib.loads(TEXT)
    assert set(full) == {field.name for field in msgspec.structs.fields(recipe.Recipe)}
    for table in TABLES:
        kind = getattr(recipe, table.capitalize())
        assert set(full[table]) == {field.name for field in msgspec.structs.fields(kind)}, table


@pytest.mark.parametrize("table", ["", *TABLES])
def test_it_states_the_defaults_as_they_are(table: str) -> None:
    found: Any = parse_recipe(TEXT)
    part = re.split(r"^\[(\w+)\]", TEXT, flags=re.MULTILINE)
    parts = {"": part[0]} | dict(zip(part[1::2], part[2::2], strict=True))
    value = getattr(found, table) if table else found
    for field in msgspec.structs.fields(type(value)):
        if field.name in TABLES:
            continue
        (line,) = [one for one in parts[table].splitlines() if one.startswith(f"{field.name} = ")]
        given, required = getattr(value, field.name), field.default is msgspec.NODEFAULT
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default, required = field.default_factory(), False
        assert required == ("(no default)" in line), field.name
        if not required:
            assert (given != default) == ("(default:" in line), field.name


@pytest.mark.parametrize("file", sorted(INPUTS.glob("*/distill.toml")), ids=lambda f: f.parent.name)
def test_every_example_is_read(file: Path) -> None:
    parse_recipe(file.read_text())
    if file.parent.name != "full":  # it names files that are not there
        load_project(file)
