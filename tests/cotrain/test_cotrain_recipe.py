"""cotrain.toml: what is right is read, what is wrong is told by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixserver.core.errors import ConfigError
from mixserver.cotrain.config.load import (
    bulk_recipe,
    load_cotraining,
    parse_cotraining,
    worker_command,
)

INPUTS = Path(__file__).parents[2] / "inputs"
HEAD = 'name = "cu"\nstructure = "cu.xyz"\n'
BOTH = HEAD + '[large]\ndata = ["a.xyz"]\n[small]\ndata = ["b.xyz"]\n'
CELL = """1
Lattice="0.0 1.8 1.8 1.8 0.0 1.8 1.8 1.8 0.0" Properties=species:S:1:pos:R:3 pbc="{pbc}"
Cu 0.0 0.0 0.0
"""


def test_the_least_recipe_has_good_defaults() -> None:
    recipe = parse_cotraining(BOTH)
    assert recipe.folder == "cotrained"
    assert recipe.agreement.md
    assert recipe.agreement.mutual
    assert recipe.control
    looked = bulk_recipe(recipe, "/x/large.model", "bulk")
    assert looked.expensive.command == worker_command(recipe, "/x/large.model")
    assert looked.expensive.command[:2] == ("mace", "/x/large.model")
    assert looked.soft == recipe.soft


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[agreement]\nenergie = 1.0", "did you mean agreement.energy?"),
        ("[agreement]\nenergy = 0.0\nforces = 0.0", "both 0"),
        ("[agreement]\nmd = false", "no bulk to agree on"),
        ("[agreement]\nstart = 100", "never be tied"),
        ("[training]\nstage_two = 100", "training.stage_two"),
        ("[training]\nvalidation = 0.0", "training.validation"),
        ('[training]\ndtype = "float16"', "it is one of 'float32', 'float64'"),
        ("[soft]\nsnapshots = 1\nstrained = 0\nvacancies = 0\ntemperatures=[9.0]", "test with"),
        ("[soft]\ntemperatures = []", "soft.temperatures is empty"),
        ("[workers]\ncount = 0", "count"),
    ],
)
def test_wrong_values_are_told_by_their_key(table: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cotraining(BOTH + table)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ('[large]\n[small]\ndata = ["b.xyz"]', "large.data is empty"),
        ('[large]\nfixed = true\n[small]\ndata = ["b.xyz"]', "needs large.model"),
        ('[large]\nmodel = "a"\nfixed = true\n[small]\nmodel = "b"\nfixed = true', "small.fixed"),
        ('[large]\ndata = ["a"]\nweight = 0\n[small]\ndata = ["b"]', "large.weight"),
    ],
)
def test_experts_without_what_they_need(tables: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cotraining(HEAD + tables)
    assert said in str(caught.value)


@pytest.mark.parametrize("file", sorted(INPUTS.glob("*/cotrain.toml")), ids=lambda f: f.parent.name)
def test_every_example_is_read(file: Path) -> None:
    parse_cotraining(file.read_text())


def test_files_are_looked_for_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "cotrain.toml").write_text(BOTH)
    (tmp_path / "cu.xyz").write_text(CELL.format(pbc="T T T"))
    with pytest.raises(ConfigError, match=r"large\.data names .*a\.xyz, which does not exist"):
        load_cotraining(tmp_path)
    for name in ("a.xyz", "b.xyz"):
        (tmp_path / name).write_text("")
    project = load_cotraining(tmp_path)
    assert project.bulk(tmp_path / "m", "bulk").folder == tmp_path / "cotrained" / "bulk"
    (tmp_path / "cu.xyz").write_text(CELL.format(pbc="T T F"))
    with pytest.raises(ConfigError, match="all three directions"):
        load_cotraining(tmp_path)
