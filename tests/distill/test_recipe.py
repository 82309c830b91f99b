"""distill.toml: what is right is read, what is wrong is told by its key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon import order_in
from cells import fcc

from mixserver.config.load import parse
from mixserver.distill.reading import load_order, parse_recipe
from mixserver.errors import ConfigError
from mixserver.frame import Topology
from mixserver.record.structures import write_frame

HEAD = 'name = "si"\nstructure = "si.xyz"\n[expensive]\ncommand = ["mace", "si.model"]\n'


def test_the_least_recipe_has_good_defaults() -> None:
    recipe = parse_recipe(HEAD)
    assert recipe.folder == "distilled"
    assert recipe.potential.twojmax == 4
    assert recipe.soft.temperatures == (300.0, 600.0, 900.0)
    assert recipe.hard.form == "exact"
    assert recipe.partition.weight == recipe.fit.ridge == "auto"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[soft]\ntemperature = [300.0]", "did you mean soft.temperatures?"),
        ("[potentail]\ntwojmax = 4", "did you mean potential?"),
        ('[hard]\nform = "exakt"', "it is one of 'exact', 'tolerance'"),
        ("[soft]\natoms = 10.5", "soft.atoms"),
        ("[soft]\ntemperatures = []", "soft.temperatures is empty"),
        ("[soft]\ntemperatures = [300.0, -1.0]", "soft.temperatures"),
        ("[soft]\ntemperatures = [300.0, 300.0]", "soft.copies"),
        ("[soft]\ntimestep_fs = 80.0", "soft.every_ps"),
        ("[soft]\ntimestep_fs = nan", "soft.timestep_fs"),
        ("[soft]\ncopies = 20", "soft.copies"),
        ("[soft]\nsnapshots = 0", "soft.snapshots"),
        ("[soft]\nvacancies = 40", "soft.vacancies"),
        ("[soft]\nseed = -1", "soft.seed"),
        ("[pair]\nfunctions = 3", "pair.functions"),
        ("[pair]\ncutoff = 0.5", "pair.cutoff"),
        ("[partition]\nregions = -1", "partition.regions"),
        ("[partition]\nprice = -0.1", "partition.price"),
        ("[fit]\nvalidation = 0.5", "fit.validation"),
        ("[hard]\nstrain = 0.5", "hard.strain"),
        ("[hard]\nalpha = 0.0", "hard.alpha"),
        ("[partition]\ngroups = 0", "partition.groups"),
        ("[partition]\nweight = -1.0", "partition.weight"),
        ("[fit]\nvalidation = 1.5", "fit.validation"),
        ("[fit]\nenergy = 0.0\nforce = 0.0\nvirial = 0.0", "nothing would be fitted"),
        ("[fit]\nridge = -1.0", "fit.ridge"),
        ("[sweep]\ncutoffs = []", "sweep.cutoffs"),
        ('[potential]\nelements = ["Si", "Si"]', "potential.elements"),
        ('[potential]\nelements = ["Sj"]', "potential.elements"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(table: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_recipe(f"{HEAD}{table}\n")
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('command = ["mace", "si.model"]', "", "neither"),
        ('command = ["mace", "si.model"]', 'command = ["toy"]\ndoor = "tcp://*:5"', "both"),
        ('name = "si"', 'name = "a/b"', "name"),
        ('name = "si"', 'name = "si"\nfolder = "."', "folder"),
        ('structure = "si.xyz"', "", "structure"),
        ("[expensive]", "[expensive", "not valid TOML"),
    ],
)
def test_the_head_is_checked_too(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_recipe(HEAD.replace(old, new))


def test_the_hints_of_mix_toml_are_still_its_own() -> None:
    with pytest.raises(ConfigError, match=r"did you mean upstream\.structure\?"):
        parse('[upstream]\nstructur = "init.xyz"\n')


def test_an_order_knows_its_files_and_descriptor(tmp_path: Path) -> None:
    order = order_in(tmp_path)
    assert order.folder == tmp_path / "distilled"
    assert order.elements == ("Ar",)
    descriptor = order.descriptor(twojmax=6)
    assert (descriptor.twojmax, descriptor.cutoff) == (6, 4.7)
    assert descriptor.radii == (0.5,)
    assert order.reference is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[potential]\nelements = ["Ge"]', "lacks Ar"),
        ("[potential]\nradii = [0.5, 0.5]", "radii"),
        ("[potential]\ntwojmax = 99", "twojmax"),
        ("[sweep]\ntwojmax = [0]", "twojmax"),
        ('[potential]\nreference = "zbl.in"', "potential.reference"),
    ],
)
def test_the_recipe_is_held_against_the_structure(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        order_in(tmp_path, more=table)


def test_a_slab_is_not_bulk(tmp_path: Path) -> None:
    order_in(tmp_path)
    bulk = fcc(1, 5.25)
    numbers = np.full(4, 18, np.int32)
    slab = Topology(numbers, (True, True, False)).frame(bulk.positions, bulk.cell)
    write_frame(tmp_path / "ar.xyz", slab)
    with pytest.raises(ConfigError, match="not bulk"):
        load_order(tmp_path)


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"distill\.toml cannot be read"):
        load_order(tmp_path)
