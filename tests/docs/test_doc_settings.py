"""Settings on the pages are keys that exist; the generated pages are those of today's code."""

from __future__ import annotations

import sys
import tomllib
import typing
from typing import Any

import msgspec
import pytest
from docs_pages import PAGES, ROOT, Block, blocks, relative

from mixserver.config.load import parse
from mixserver.config.schema import Config
from mixserver.cotrain.config.load import parse_cotraining
from mixserver.cotrain.config.schema import Recipe as CotrainRecipe
from mixserver.distill.config.schema import Recipe

sys.path.insert(0, str(ROOT / "docs"))
import make_reference

WHOLE = [b for page in PAGES for b in blocks(page) if b.language == "toml"]
PARTS = [b for page in PAGES for b in blocks(page) if b.language == "ini"]
NAMED = [
    b
    for page in PAGES
    for b in blocks(page)
    if b.language == "text" and b.text.startswith("name = ")
]
RECIPES = [b for b in NAMED if "[large]" not in b.text]
COTRAINED = [b for b in NAMED if "[large]" in b.text]


def name_of(block: Block) -> str:
    return f"{relative(block.page)}: {block.text.splitlines()[0]}"


def unknown(
    table: dict[str, Any], structs: list[type[msgspec.Struct]], path: str = ""
) -> list[str]:
    """Keys of a table that none of the classes declares."""
    found = []
    for key, value in table.items():
        kinds = [typing.get_type_hints(s)[key] for s in structs if key in s.__struct_fields__]
        if not kinds and key != "kind":
            found.append(f"{path}{key}")
        below = [struct for kind in kinds for struct in make_reference.structs_in(kind)]
        for part in value if isinstance(value, list) else [value]:
            if below and isinstance(part, dict):
                found += unknown(part, below, f"{path}{key}.")
    return found


@pytest.mark.parametrize("block", WHOLE, ids=name_of)
def test_a_whole_mix_toml_is_read(block: Block) -> None:
    parse(block.text)


@pytest.mark.parametrize("block", RECIPES, ids=name_of)
def test_a_whole_distill_toml_is_read(block: Block) -> None:
    msgspec.toml.decode(block.text, type=Recipe)


@pytest.mark.parametrize("block", COTRAINED, ids=name_of)
def test_a_whole_cotrain_toml_is_read(block: Block) -> None:
    parse_cotraining(block.text)


def test_the_full_cotrain_toml_names_every_key() -> None:
    text = (ROOT / "inputs/full/cotrain.toml").read_text()
    parse_cotraining(text)
    full = tomllib.loads(text)
    assert set(full) == {field.name for field in msgspec.structs.fields(CotrainRecipe)}
    for field in msgspec.structs.fields(CotrainRecipe):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            keys = {key.name for key in msgspec.structs.fields(field.type)}
            assert set(full[field.name]) == keys, field.name


@pytest.mark.parametrize("block", PARTS, ids=name_of)
def test_parts_of_a_file_have_known_keys(block: Block) -> None:
    table = tomllib.loads(block.text)
    assert not unknown(table, [Config]) or not unknown(table, [Recipe]), unknown(table, [Config])


def test_a_wrong_key_would_be_found() -> None:
    assert unknown({"region": {"seeds": {"kind": "atoms", "index": [1]}}}, [Config]) == [
        "region.seeds.index"
    ]
    assert WHOLE
    assert PARTS
    assert RECIPES
    assert COTRAINED


@pytest.mark.parametrize("page", make_reference.pages(), ids=lambda page: page.name)
def test_generated_pages_are_those_of_the_code(page: Any) -> None:
    made = make_reference.pages()[page]
    assert page.read_text() == made, "run: python docs/make_reference.py"


def test_the_picture_shows_all_shells() -> None:
    import make_figure

    atoms, _ = make_figure.regions()
    assert set(atoms.arrays["shell"].tolist()) == set(make_figure.SHELLS)
