"""What mix.toml's channels and i-PI's force components make together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixserver.analysis.checks.files import check_files
from mixserver.analysis.checks.findings import Finding
from mixserver.config import load_case

SOCKETS = "".join(
    f"<ffsocket name='{name}' mode='unix'><address>{address}</address></ffsocket>"
    for name, address in (("all", "a"), ("fast", "b"), ("rest", "c"))
)


def _found(
    folder: Path,
    *,
    forces: str = "<force forcefield='all'/>",
    upstream: str = 'address = "unix:a"',
    sockets: str = SOCKETS,
    mode: str = "nve",
    mixing: str = 'kind = "energy"',
    seeds: str = '{ kind = "atoms", indices = [0] }',
) -> list[Finding]:
    (folder / "init.xyz").write_text(
        "1\n# CELL(abcABC): 9 9 9 90 90 90 positions{angstrom} cell{angstrom}\nW 0 0 0\n"
    )
    (folder / "input.xml").write_text(
        f"<simulation>{sockets}<system><initialize nbeads='1'><file mode='xyz'>init.xyz</file>"
        f"</initialize><forces>{forces}</forces><motion mode='dynamics'><dynamics mode='{mode}'>"
        "<timestep units='femtosecond'> 1 </timestep></dynamics>"
        "</motion></system></simulation>"
    )
    (folder / "mix.toml").write_text(
        f'[upstream]\nstructure = "init.xyz"\n{upstream}\n[region]\ncore_radius = 1.0\n'
        f"blend_width = 1.0\nseeds = {seeds}\n[mixing]\n{mixing}\n"
        "[models.cheap]\n[models.expensive]\n"
    )
    return check_files(load_case(folder))[0]


PARTS = 'channels = { cheap = "unix:b", correction = "unix:c" }'
WITH_MIXED = 'address = "unix:a"\nchannels = { cheap = "unix:b" }'


def _force(forcefield: str, weights: str = "", weight: float = 1.0) -> str:
    levels = f"<mts_weights>{weights}</mts_weights>" if weights else ""
    return f"<force forcefield='{forcefield}' weight='{weight}'>{levels}</force>"


@pytest.mark.parametrize(
    ("upstream", "forces", "said"),
    [
        (PARTS, _force("fast") + _force("rest"), ""),
        (PARTS, _force("fast", "[0, 1]") + _force("rest", "[1,0]"), ""),
        (WITH_MIXED, _force("all", "[1,0]") + _force("fast", "[-1,1]"), ""),
        (WITH_MIXED, _force("all") + _force("fast"), "2 x cheap + 1 x"),
        (WITH_MIXED, _force("all", "[1,0]") + _force("fast", "[0,1]"), "2 x cheap + 1 x"),
        (PARTS, _force("fast", weight=0.5) + _force("rest", "[1,1]"), "0.5 x cheap + 2 x"),
    ],
)
def test_components_must_add_up(tmp_path: Path, upstream: str, forces: str, said: str) -> None:
    found = _found(tmp_path, upstream=upstream, forces=forces)
    (told,) = (finding for finding in found if finding.what == "components")
    assert told.level == ("warning" if said else "ok"), told.message
    assert said in told.message


def test_one_component_is_not_counted(tmp_path: Path) -> None:
    """Its weight may be anything: i-PI scales it for thermodynamic integration."""
    found = _found(tmp_path, forces=_force("all", weight=0.3))
    assert not [finding for finding in found if finding.what == "components"]


def test_a_channel_that_ipi_lacks_is_named_by_its_key(tmp_path: Path) -> None:
    upstream = 'address = "unix:a"\nchannels = { correction = "unix:elsewhere" }'
    (error,) = (f for f in _found(tmp_path, upstream=upstream) if f.level == "error")
    assert error.what == "address"
    assert "upstream.channels.correction = 'unix:elsewhere'" in error.message
    assert "unix:b, unix:c" in error.message


def test_one_address_cannot_be_two_channels(tmp_path: Path) -> None:
    upstream = 'address = "unix:a"\nchannels = { cheap = "unix:a" }'
    (error,) = (f for f in _found(tmp_path, upstream=upstream) if f.level == "error")
    assert "as upstream.address and as upstream.channels.cheap" in error.message


@pytest.mark.parametrize("mode", ["nve", "npt"])
def test_only_mixed_forces_are_warned_about(tmp_path: Path, mode: str) -> None:
    by_energy = _found(tmp_path, mode=mode)
    assert {finding.level for finding in by_energy} == {"ok"}
    by_force = _found(tmp_path, mode=mode, mixing='kind = "force"')
    assert [finding.what for finding in by_force if finding.level == "warning"] == [mode]


@pytest.mark.parametrize("role", ["cheap", "expensive"])
def test_that_stock_clients_take_one_number_of_atoms_is_known_beforehand(
    tmp_path: Path, role: str
) -> None:
    stock = f'kind = "force"\n[workers]\nclients = "unix:e"\nclients_role = "{role}"'
    told = [f for f in _found(tmp_path, mixing=stock) if f.what == "stock clients"]
    assert [finding.level for finding in told] == (["warning"] if role == "expensive" else [])
    assert not told or "start them in a loop" in told[0].message


def test_where_regions_are_chosen_anew_the_work_is_named(tmp_path: Path) -> None:
    chosen = '{ kind = "criterion", compute = "centro/atom 8", initial = [0] }'
    (told,) = (f for f in _found(tmp_path, seeds=chosen) if f.what == "ensemble")
    assert "energy less work" in told.message
