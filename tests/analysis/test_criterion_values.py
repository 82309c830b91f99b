"""The histogram of a criterion: every atom once, and bounds between bins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from ase.io import read
from cells import silicon
from hypothesis import given
from hypothesis import strategies as st
from in_process import prepared_case
from matplotlib.figure import Figure

from mixserver.analysis.criterion_values import CriterionValues
from mixserver.analysis.region_figure import draw_histogram, draw_preview
from mixserver.analysis.region_preview import RegionPreview, carve_preview
from mixserver.cli.region_text import criterion_text, preview_text
from mixserver.region.region import Region
from mixserver.region.seeds import CriterionSeeds
from mixserver.server.mixers import carving_mixer

ANY = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda value: round(value, 6))


@given(st.lists(ANY | st.just(math.nan), min_size=1, max_size=60), ANY, ANY, st.booleans())
def test_every_atom_is_counted_once_and_seeds_are_those_that_are_selected(
    values: list[float], one: float, other: float, all_may: bool
) -> None:
    low, high = sorted((one, other))
    eligible = None if all_may else np.arange(len(values)) % 2 == 0
    seeds = CriterionSeeds("some/atom", low=low, high=high, eligible=eligible)
    found = CriterionValues(seeds, np.array(values))
    bins = found.histogram()
    assert sum(one.atoms for one in bins) == found.eligible.sum()
    assert sum(one.seeds for one in bins) == len(found.selected)
    assert all(one.low < one.high and one.seeds <= one.atoms for one in bins)
    if not all(one.whole for one in bins):
        edges = [one.low for one in bins] + [bins[-1].high]
        for bound in (low, high):
            inside = edges[0] < bound < edges[-1]
            assert not inside or len(bins) == 1 or min(abs(e - bound) for e in edges) < 1e-9


def test_whole_numbers_have_a_bin_each() -> None:
    seeds = CriterionSeeds("coord/atom cutoff 2.8", high=3.6)
    bins = CriterionValues(seeds, np.array([3.0, 4.0, 4.0, 6.0])).histogram()
    assert [(one.middle, one.atoms, one.seeds) for one in bins] == [
        (3.0, 1, 1),
        (4.0, 2, 0),
        (5.0, 0, 0),
        (6.0, 1, 0),
    ]
    assert all(one.whole for one in bins)


async def _seen(values: list[float] | None, core: float = 3.0) -> RegionPreview:
    start = silicon(2, rattle=0.0)
    async with prepared_case(start, core=core) as setup:
        reaches = await setup.reaches()
        mixer = carving_mixer(setup.config, start, reaches.expensive)
        region = await setup.region()
        if values is not None:
            region = Region(np.zeros(len(start)), np.empty(0, dtype=np.intp))
        seen = carve_preview(start, region, mixer)
    if values is None:
        return seen
    seeds = CriterionSeeds("coord/atom cutoff 2.8", low=1.0, high=3.6)
    padded = np.resize(values, len(start)).astype(float)
    return RegionPreview(
        seen.frame, region, seen.clusters, seen.shell, CriterionValues(seeds, padded)
    )


async def test_no_seed_is_warned_of_with_the_values_there_are(tmp_path: Path) -> None:
    seen = await _seen([4.0])
    (words,) = seen.warnings()
    assert "no atom is expensive" in words
    assert "go from 4 to 4, and none fits low = 1 and high = 3.6" in words
    text = criterion_text(seen)
    assert text.index("low = 1") < text.index("high = 3.6") < text.index("  4  ####")
    assert "0 atoms within the bounds" in text
    seen.write(tmp_path / "regions.xyz")
    atoms = read(tmp_path / "regions.xyz")
    assert set(atoms.arrays["criterion"]) == {4.0}
    assert draw_preview(seen, tmp_path / "a.png", "init.xyz").stat().st_size > 20_000


async def test_a_region_of_most_atoms_is_warned_of() -> None:
    seen = await _seen(None, core=6.0)
    assert any("% of all atoms, so mixing can save little" in words for words in seen.warnings())
    counts = seen.counts()
    assert sum(counts.values()) == len(seen.frame)
    rows = [line.split() for line in preview_text(seen).splitlines()]
    assert ["core", str(counts["core"])] in [row[:2] for row in rows]
    assert criterion_text(seen) == ""


def test_a_bound_far_from_all_values_leaves_them_visible() -> None:
    seeds = CriterionSeeds("centro/atom 4", low=-500.0, high=90.0)
    found = CriterionValues(seeds, np.linspace(13.0, 15.0, 40))
    axes = draw_histogram(Figure().subplots(), found)
    left, right = axes.get_xlim()
    assert 12.0 < left < 13.0
    assert 15.0 < right < 16.0
    written = [text.get_text() for text in axes.texts]
    assert written == ["low = -500 (left)", "high = 90 (right)"]
