"""distill.toml: what is right is read, what is wrong is told by its key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon import crystal, project_in
from cells import fcc

from mixserver.config.load import parse
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.core.structures import write_frame
from mixserver.distill.config.load import load_project, parse_recipe

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
    project = project_in(tmp_path)
    assert project.folder == tmp_path / "distilled"
    assert project.elements == ("Ar",)
    descriptor = project.descriptor(twojmax=6)
    assert (descriptor.twojmax, descriptor.cutoff) == (6, 4.7)
    assert descriptor.radii == (0.5,)
    assert project.reference is None


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
        project_in(tmp_path, more=table)


def test_a_slab_is_not_bulk(tmp_path: Path) -> None:
    project_in(tmp_path)
    bulk = fcc(1, 5.25)
    numbers = np.full(4, 18, np.int32)
    slab = Topology(numbers, (True, True, False)).frame(bulk.positions, bulk.cell)
    write_frame(tmp_path / "ar.xyz", slab)
    with pytest.raises(ConfigError, match="not bulk"):
        load_project(tmp_path)


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no distill\.toml"):
        load_project(tmp_path)


SINGLE = "temperatures = [20.0]\n"


@pytest.mark.parametrize(
    ("soft", "more", "said"),
    [
        (SINGLE + "snapshots = 1\nstrained = 0\nvacancies = 0\n", "", "none is left to choose"),
        (SINGLE + "snapshots = 2\nstrained = 0\nvacancies = 0\n", "", "none is left to choose"),
        (SINGLE + "atoms = 1\n", "", "soft.atoms = 1 makes a supercell of 1 atom"),
        (
            "",
            "[potential]\ncutoff = 3.7\n",
            r"potential.cutoff = 3.7 Å includes no .* 3.71",
        ),
        ("", "[pair]\ncutoff = 3.7\n", r"pair.cutoff = 3.7 Å includes no neighbour"),
    ],
)
def test_what_would_fail_hours_later_is_said_at_once(
    soft: str, more: str, said: str, tmp_path: Path
) -> None:
    write_frame(tmp_path / "one.xyz", primitive())
    (tmp_path / "distill.toml").write_text(
        f'name = "ar"\nstructure = "one.xyz"\n[expensive]\ncommand = ["toy"]\n[soft]\n{soft}{more}'
    )
    with pytest.raises(ConfigError, match=said):
        load_project(tmp_path)


def test_few_snapshots_are_enough_where_nothing_is_to_be_chosen(tmp_path: Path) -> None:
    few = SINGLE + "snapshots = 1\nstrained = 0\nvacancies = 0\n"
    project_in(tmp_path, soft=few, more="[fit]\nridge = 0.0\n[partition]\nweight = 1.0\n")


def primitive() -> Frame:
    """Argon, one atom."""
    cell = 0.5 * 5.25 * (1.0 - np.eye(3))
    return Topology(np.full(1, 18, np.int32)).frame(np.zeros((1, 3)), cell)


def test_a_supercell_is_told_by_its_cell(tmp_path: Path) -> None:
    """With a vacancy too: a thousand questions would be asked of it, of the wrong crystal."""
    project_in(tmp_path)
    whole = crystal(3)
    left = Topology(whole.topology.numbers[1:]).frame(whole.positions[1:], whole.cell)
    write_frame(tmp_path / "ar.xyz", left)
    with pytest.raises(ConfigError, match=r"has 107 atoms and repeats a cell of 1") as told:
        load_project(tmp_path)
    small = str(told.value).split("it is:\n")[1]
    (tmp_path / "ar.xyz").write_text(small)
    found = load_project(tmp_path).crystal
    assert len(found) == 1
    assert found.volume == pytest.approx(5.25**3 / 4, rel=1e-4)


def test_a_large_cell_that_does_not_repeat_is_taken(tmp_path: Path) -> None:
    """An alloy without order has no smaller one."""
    project_in(tmp_path)
    whole = crystal(2)
    numbers = np.where(np.random.default_rng(1).random(32) < 0.5, 18, 36).astype(np.int32)
    write_frame(tmp_path / "ar.xyz", Topology(numbers).frame(whole.positions, whole.cell))
    assert len(load_project(tmp_path).crystal) == 32
