"""Potentials are split as LAMMPS reads them, without LAMMPS."""

from __future__ import annotations

import pytest
from mixserver_worker.engines.lammps.setup import without_accelerators
from mixserver_worker.engines.lammps.weighting.split_styles import NotWeightable, split_potential

STYLES = {"sw", "snap", "zbl", "table", "zero", "lj/cut", "eam", "hybrid", "hybrid/overlay"}


def is_style(word: str) -> bool:
    return word in STYLES


TUNGSTEN = (
    "variable inner equal 4",
    "labelmap atom 1 W 2 He",
    "pair_style hybrid/overlay zbl 4 4.8 snap table spline 1000 table linear 10 zero 6",
    "pair_coeff 1 1 zbl 74 74",
    'pair_coeff * * snap "/my files/w.snapcoeff" /w.snapparam W NULL',
    "pair_coeff 2 2 table 1 he.table HeHe",
    "pair_coeff 1 2 table 2 whe.table WHe",
    "pair_coeff * * zero",
    "pair_modify pair snap special lj 1 1 1",
    "pair_modify shift yes",
)


def test_snap_and_pairs_are_separated() -> None:
    parts = split_potential(TUNGSTEN, 2, is_style)
    (snap,) = parts.snaps
    assert snap.names == ("W", None)
    assert snap.visible == (0,)
    assert snap.files == '"/my files/w.snapcoeff" /w.snapparam'
    assert snap.common == ("variable inner equal 4",)
    assert parts.pairwise == (
        "variable inner equal 4",
        "labelmap atom 1 W 2 He",
        "pair_style hybrid/overlay zbl 4 4.8 table spline 1000 table linear 10 zero 0.5",
        "pair_coeff * * zero",
        "pair_coeff 1 1 zbl 74 74",
        "pair_coeff 2 2 table 1 he.table HeHe",
        "pair_coeff 1 2 table 2 whe.table WHe",
        "pair_modify shift yes",
    )


def test_atom_types_are_invisible_then_fixed_then_any() -> None:
    text = ("pair_style snap", "pair_coeff * * /a.snapcoeff /a.snapparam In P")
    (snap,) = split_potential(text, 2, is_style).snaps
    assert snap.names_of_types((2, 1)) == ["In"] * 3 + ["P"] * 3 + ["In", "In", "P"]
    lines = snap.coefficient_commands((2, 1))
    assert lines[1] == "pair_coeff * * snap /a.snapcoeff /a.snapparam NULL In In In P P P In In P"
    unseen = {tuple(line.split()[1:3]) for line in lines if line.endswith("none")}
    assert unseen == {("2", "2"), ("2", "5"), ("5", "5")}
    assert split_potential(text, 2, is_style).pairwise is None


def test_many_body_styles_are_separated_from_pairs() -> None:
    text = (
        "labelmap atom 1 Si 2 He",
        "pair_style hybrid/overlay sw threebody on zbl 3 4",
        "pair_coeff * * sw /si.sw Si NULL",
        "pair_coeff 1 2 zbl 14 2",
    )
    parts = split_potential(text, 2, is_style)
    (term,) = parts.many_body
    assert (term.style, term.name, term.file) == ("sw threebody on", "sw", "/si.sw")
    assert (term.names, term.visible, term.common) == (("Si", None), (0,), ())
    assert term.alone()[-1] == "pair_coeff * * sw /si.sw Si NULL"
    assert parts.pairwise == (
        "labelmap atom 1 Si 2 He",
        "pair_style hybrid/overlay zbl 3 4 zero 0.5",
        "pair_coeff * * zero",
        "pair_coeff 1 2 zbl 14 2",
    )


def test_without_snap_the_potential_is_one_term() -> None:
    text = ("pair_style hybrid lj/cut 5 eam", "pair_coeff 1 1 lj/cut 1 2", "pair_coeff 2 2 eam f")
    parts = split_potential(text, 2, is_style)
    assert parts.snaps == ()
    assert parts.pairwise == text


def test_several_snaps_are_distinguished_by_their_numbers() -> None:
    text = (
        "pair_style hybrid/overlay snap snap",
        "pair_coeff * * snap 1 /a.snapcoeff /a.snapparam Si NULL",
        "pair_coeff * * snap 2 /b.snapcoeff /b.snapparam NULL C",
    )
    parts = split_potential(text, 2, is_style)
    assert [snap.files for snap in parts.snaps] == [
        "/a.snapcoeff /a.snapparam",
        "/b.snapcoeff /b.snapparam",
    ]
    assert [snap.visible for snap in parts.snaps] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (("pair_style hybrid snap zbl 3 4", "pair_coeff * * snap a b Si"), "use hybrid/overlay"),
        (("pair_style snap", "pair_style snap", "pair_coeff * * a b Si"), "more than once"),
        (("pair_style snap", "pair_coeff * * a b"), "lacks a line"),
        (("pair_style sw", "pair_coeff * * a"), "lacks a single line"),
        (
            ("pair_style snap", "pair_coeff * * a b Si", "neigh_modify exclude type 1 1"),
            "neigh_modify exclude",
        ),
    ],
)
def test_potentials_that_cannot_be_split_have_a_reason(text: tuple[str, ...], match: str) -> None:
    with pytest.raises(NotWeightable, match=match):
        split_potential(text, 1, is_style)


def test_switches_without_accelerators() -> None:
    switches = ("-k", "on", "g", "1", "-sf", "kk", "-var", "x", "-1", "-pk", "kokkos", "newton")
    assert without_accelerators(switches) == ("-var", "x", "-1")
