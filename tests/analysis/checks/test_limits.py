"""What a check refuses before it asks a model, and whether mixing saves anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mixserver.analysis.checks.limits import check_limits
from mixserver.config import Case, load_case
from mixserver.config.load import parse
from mixserver.core.errors import ConfigError
from mixserver.core.frame import Frame, Topology
from mixserver.server.local_workers import models_without_workers

INPUTS = Path(__file__).parents[3] / "inputs"
TABLES = (
    '[upstream]\naddress = "unix:x"\nstructure = "init.xyz"\n[region]\ncore_radius = 3.0\n'
    'blend_width = 3.0\nseeds = { kind = "atoms", indices = [0] }\n'
    '[models.cheap]\n[models.expensive]\n[mixing]\nkind = "force"\n'
)


def _case(more: str) -> Case:
    return Case(Path(), Path("mix.toml"), parse(TABLES + more))


def _local(role: str) -> str:
    return f'[[local]]\nrole = "{role}"\ncommand = ["toy"]\n'


def _frame(atoms: Atoms, scale: float = 1.0) -> Frame:
    topology = Topology(atoms.numbers.astype(np.int32))
    return Frame(topology, atoms.positions * scale, np.array(atoms.cell[:]) * scale)


def _levels(case: Case, start: Frame | None = None) -> dict[str, str]:
    return {finding.what: finding.level for finding in check_limits(case, start)}


@pytest.mark.parametrize(
    ("more", "lacking"),
    [
        (_local("cheap") + _local("expensive"), []),
        (_local("cheap"), ["expensive"]),
        ("", ["cheap", "expensive"]),
        ('[workers]\ndoor = "tcp://0.0.0.0:5555"\nkeys = "keys"\n', []),
        ('[workers]\nclients = "unix:lmp"\n' + _local("expensive"), []),
        ('[workers]\nclients = "unix:lmp"\n', ["expensive"]),
        ('[workers]\nclients = "unix:lmp"\nclients_role = "expensive"\n', ["cheap"]),
    ],
)
def test_models_that_nobody_can_evaluate(more: str, lacking: list[str]) -> None:
    messages = models_without_workers(_case(more))
    assert len(messages) == len(lacking)
    assert all(f"the {role} model" in words for role, words in zip(lacking, messages, strict=True))
    # without any [[local]] the case may be for `serve`, to which workers come by its address
    level = "error" if "[[local]]" in more else "warning"
    assert _levels(_case(more)) == ({"workers": level} if lacking else {})


@pytest.mark.parametrize("file", sorted(INPUTS.glob("*/mix.toml")), ids=lambda f: f.parent.name)
def test_the_cases_have_workers(file: Path) -> None:
    assert models_without_workers(load_case(file)) == []


@pytest.mark.parametrize(
    ("kind", "seeds", "role", "said"),
    [
        ("energy", '{ kind = "atoms", indices = [0] }', "cheap", "no weighted site energies"),
        ("energy", '{ kind = "atoms", indices = [0] }', "expensive", "no weighted site energies"),
        ("force", '{ kind = "criterion", compute = "coord/atom cutoff 3" }', "cheap", "criterion"),
        ("force", '{ kind = "criterion", compute = "coord/atom cutoff 3" }', "expensive", ""),
        ("force", '{ kind = "species", elements = ["Si"] }', "cheap", ""),
    ],
)
def test_stock_clients_are_not_asked_for_what_they_cannot_say(
    kind: str, seeds: str, role: str, said: str
) -> None:
    text = TABLES.replace('"force"', f'"{kind}"')
    text = text.replace('{ kind = "atoms", indices = [0] }', seeds)
    text += f'[workers]\nclients = "unix:lmp"\nclients_role = "{role}"\n'
    if said:
        with pytest.raises(ConfigError, match=said):
            parse(text)
    else:
        parse(text)


def test_distances_are_told_where_they_are_odd() -> None:
    case = _case(_local("cheap") + _local("expensive"))
    silicon = bulk("Si", cubic=True)
    assert _levels(case, _frame(silicon)) == {}
    assert _levels(case, _frame(silicon, 0.529177)) == {"distances": "error"}
    assert _levels(case, _frame(silicon, 0.68)) == {"distances": "warning"}  # pressed to a third
    for apart, level in ((0.5, "error"), (1.1, "warning")):
        squeezed = silicon.copy()
        squeezed.positions[1] = squeezed.positions[0] + [apart, 0.0, 0.0]
        assert _levels(case, _frame(squeezed)) == {"distances": level}
        (finding,) = check_limits(case, _frame(squeezed))
        assert "bohr" not in finding.message  # one pair only
    squeezed.positions[1] = squeezed.positions[0] + [0.5, 0.0, 0.0]
    meant = replace(case, config=parse(TABLES + _local("cheap") + "[limits]\nshortest_pair = 0\n"))
    assert _levels(meant, _frame(squeezed))["distances"] == "warning"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("force = -1", "limits.force must be above 0"),
        ("energy_change = nan", "limits.energy_change must be above 0"),
        ("shortest_pair = 1.5", "limits.shortest_pair must be below 1, got 1.5"),
    ],
)
def test_limits_that_mean_nothing(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(f"{TABLES}[limits]\n{line}\n")
