from __future__ import annotations

import io
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import made_results
import msgspec
import numpy as np
import pytest
from matplotlib.image import imread
from report_files import read_result

from mixserver.core.errors import ConfigError
from mixserver.distill.report import write_report
from mixserver.distill.report.figures import figures
from mixserver.distill.report.fronts import priced
from mixserver.distill.report.page import page
from mixserver.distill.report.style import COLOURS
from mixserver.distill.report.values import (
    constants,
    elastic_error,
    hot_kind,
    lattice_constant,
    number,
    short,
    signed,
)
from mixserver.distill.report.verdict import verdict
from mixserver.distill.results import Candidate, Errors, Ghost, Parity, Result

VOID = {"meta", "img", "br", "link"}
ALL = ["parity", "errors", "curve", "phonons", "front", "sweep", "time"]


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what can be read and what is referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "action", "data", "poster", "background"}:
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert write_report(made_results.result(), folder) == folder / "report.html"
    return folder


def test_page_is_well_formed_and_holds_everything_itself(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    read = Page(text)
    assert read.links
    assert all(link.startswith("data:image/png;base64,") for link in read.links)
    assert "script" not in read.tags
    assert "link" not in read.tags
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert len(read.links) == len(ALL)


def test_values_come_back_from_json(written: Path) -> None:
    assert read_result((written / "report.json").read_bytes()) == made_results.result()


def test_pictures_lie_beside_and_show_something(written: Path) -> None:
    assert sorted(file.name for file in written.glob("*.png")) == sorted(
        f"report-{name}.png" for name in ALL
    )
    for file in written.glob("*.png"):
        data = file.read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert width > 500
        assert height > 150
        pixels = imread(io.BytesIO(data))[..., :3]
        dark = (pixels.min(axis=2) < 0.9).mean()
        assert 0.003 < dark < 0.5, file.name


def test_all_numbers_are_told(written: Path) -> None:
    result = made_results.result()
    read = Page((written / "report.html").read_text(encoding="utf-8"))
    told = read.text
    first = result.candidates[0]
    assert first.bulk is not None
    for word in (
        *("si.in", "si.snapcoeff", "si.snapparam", "si.table", "2J = 4", "4.9 Å", "6.3 Å"),
        *("31.6 ± 0.4", "253.1", "5.4569", "5.4517", "0.0001", "84435612438839d3"),
        *("130.9", "+0.14 %", "71.7", "75.1", "101.2", "-23 %", "-61 %", "3.41"),
        *("0.0217", "0.00734", "0.00446", "0.0117", "0.213 %", "97.0", "0.5", "108.6"),
        *("15.30", "4.49", "0.0068", "55 more say the same by symmetry"),
    ):
        assert word in told, word
    for one in (*result.candidates, *result.sweep):
        assert one.label in read.cells
        for errors in one.errors:
            for value in (errors.forces, 1e3 * errors.energy, 1e3 * errors.virial):
                assert short(value) in read.cells
    for point in result.front:
        assert f"{point.weight:g}" in read.cells
        assert short(point.forces) in read.cells
        assert short(point.ghost) in read.cells


def test_deviations_beyond_limits_are_marked() -> None:
    text = page(made_results.result(), {})
    marked = re.findall(r'<td class="off">([^<]*) <small>([^<]*)', text)
    assert ("101.2", "-23 %") in marked
    assert ("29.3", "-61 %") in marked
    assert ("5.4517", "-0.10 %") in marked
    assert not any(value in {"130.9", "71.7", "75.1", "5.4569"} for value, _ in marked)


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    name = '<b>"x" & $y_{$ </b><script>'
    one = made_results.candidate(
        name,
        trouble=f"trouble {name}",
        errors=(Errors(of=name, energy=0.1, forces=0.2, virial=0.3),),
    )
    made = made_results.parities()[0]
    result = made_results.result(
        name="si",
        expensive=name,
        elements=(name,),
        fingerprint=name,
        candidates=(one, made_results.candidate("_hidden")),
        sweep=(msgspec.structs.replace(one, microseconds=3.0), *made_results.swept()),
        parity=(Parity(of=name, energy=made.energy, forces=made.forces, virial=made.virial),),
        recommended=name,
        seconds={name: 3.0, "_step": 1.0},
        notes=(name,),
    )
    text = write_report(result, tmp_path).read_text(encoding="utf-8")
    read = Page(text)
    assert "<b>" not in text
    assert "script" not in read.tags
    assert name in read.cells
    assert f"trouble {name}" in "".join(read.words)


def test_nothing_known_is_told_by_dashes(tmp_path: Path) -> None:
    file = write_report(made_results.bare(), tmp_path)
    read = Page(file.read_text(encoding="utf-8"))
    assert read.cells.count("–") > 10
    assert "nan" not in read.text.lower()
    assert "None" not in read.text
    assert not list(tmp_path.glob("*.png"))
    assert read.text.count("Fail: not fit to mix with.") == 1


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_missing_values_are_dashes_wherever_they_are(missing: float | None, tmp_path: Path) -> None:
    hole = float("nan") if missing is None else missing
    errors = tuple(
        Errors(of=of, energy=hole, forces=hole, virial=hole) for of in ("hot 300 K", "x")
    )
    seen = msgspec.structs.replace(
        made_results.silicon_bulk(),
        elastic=[[hole] * 6] * 6,
        cubic=(hole, hole, hole),
        bulk_modulus=hole,
        vacancy=missing,
        volume=hole,
    )
    one = made_results.candidate(
        "constrained",
        errors=errors,
        ghosts=(Ghost(core=6.0, blend=4.0, largest=hole, rms=hole),),
        bulk=seen,
        microseconds=missing,
        microseconds_error=hole,
        spread=missing,
        inclusion=missing,
    )
    result = made_results.result(
        candidates=(one,),
        sweep=(one, *made_results.swept()),
        seconds={"hot": hole},
        parity=(),
        front=(),
    )
    read = Page(write_report(result, tmp_path).read_text(encoding="utf-8"))
    assert "nan" not in read.text.lower()
    assert not re.search(r"\binf\b", read.text)
    assert "–" in read.cells
    assert verdict(result).grade == "fail"


def test_thirty_candidates_are_all_in_the_tables_and_the_first_in_the_pictures() -> None:
    listed = tuple(made_results.candidate(f"number {n}", worse=1 + 0.1 * n) for n in range(30))
    result = made_results.result(candidates=listed, sweep=listed[:6], parity=())
    made = figures(result)
    read = Page(page(result, dict.fromkeys(made, "")))
    for one in listed:
        assert read.cells.count(one.label) >= 3
    assert "The first 8 of 30 candidates." in read.text
    names = [text.get_text() for text in made["errors"].legends[0].get_texts()]
    assert names == [f"number {n}" for n in range(8)]


def test_names_in_the_sweep_do_not_cover_each_other() -> None:
    figure = figures(made_results.result())["sweep"]
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) >= 8
        for at, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:at])
            assert box.y0 >= axes.get_window_extent().y0


def test_dominated_points_are_those_beaten_in_both() -> None:
    def point(label: str, cost: float | None, force: float) -> Candidate:
        errors = (Errors(of="hot 600 K", energy=0.0, forces=force, virial=0.0),)
        return Candidate(label=label, microseconds=cost, errors=errors)

    swept = [
        point("cheap", 10.0, 0.2),
        point("beaten", 12.0, 0.3),
        point("good", 30.0, 0.1),
        point("twin", 30.0, 0.1),
        point("dear", 31.0, 0.1),
        point("untimed", None, 0.01),
    ]
    found, of = priced(swept)
    assert of == "hot 600 K"
    assert {one.candidate.label: one.dominated for one in found} == {
        "cheap": False,
        "beaten": True,
        "good": False,
        "twin": False,
        "dear": True,
    }


def test_verdict_says_what_is_wrong_and_what_to_change() -> None:
    good = made_results.result()
    assert verdict(good).grade == "pass"

    def judged(**changes: object) -> str:
        found = verdict(_with_first(good, **changes))
        assert found.grade == "warn"
        return " ".join(found.sentences)

    assert "hard.elastic" in judged(bulk=made_results.silicon_bulk(cubic=(130.7, 71.8, 70.0)))
    assert "hard.lattice" in judged(bulk=made_results.silicon_bulk(5.47))
    ghosts = (Ghost(core=6.0, blend=4.0, largest=0.121, rms=0.05),)
    assert "0.121 eV/Å" in judged(ghosts=ghosts)
    assert "unknown" in judged(ghosts=())
    assert "soft.snapshots" in judged(errors=())
    soft = msgspec.structs.replace(made_results.silicon_bulk(), phonons={"X": [-2.0, 1.0]})
    unstable = verdict(_with_first(good, bulk=soft))
    assert unstable.grade == "fail"
    assert "lowers the energy" in " ".join(unstable.sentences)
    gone = verdict(_with_first(good, bulk=None, trouble="it flew apart"))
    assert gone.grade == "fail"
    assert "it flew apart" in " ".join(gone.sentences)


def test_cures_are_not_what_was_done_already() -> None:
    """Pinned constants that are off all the same are no reason to pin them."""
    off = {"bulk": made_results.silicon_bulk(5.47, (130.7, 71.8, 70.0))}
    free = " ".join(verdict(_with_first(made_results.result(), **off)).sentences)
    assert "set hard.elastic = true" in free
    assert "set hard.lattice = true" in free
    pinned = made_results.result(pinned=("lattice", "elastic"))
    held = " ".join(verdict(_with_first(pinned, **off)).sentences)
    assert "set hard" not in held
    assert "hard.elastic constrained them" in held
    assert "potential.twojmax (now 4), potential.cutoff (now 4.9 Å)" in held


def test_forces_that_are_worse_than_none_are_not_fit() -> None:
    """Constraints that a potential cannot hold are held by huge coefficients."""
    good = made_results.result()
    wild = tuple(
        msgspec.structs.replace(errors, forces=416.6) for errors in good.candidates[0].errors
    )
    changed = _with_first(good, errors=wild)
    free = msgspec.structs.replace(changed.candidates[2], constraints=0)
    listed = (*changed.candidates[:2], free, *changed.candidates[3:])
    found = verdict(msgspec.structs.replace(changed, candidates=listed))
    assert found.grade == "fail"
    words = " ".join(found.sentences)
    assert "force error is 417 eV/Å for" in words
    assert "not flexible enough for the constraints: without them" in words
    assert "potential.cutoff (now 4.9 Å)" in words


def test_marks_of_one_temperature_can_be_seen() -> None:
    """The cold end of the scale is nearly black."""
    one = [parity for parity in made_results.parities() if parity.of.endswith(" 600 K")]
    figure = figures(made_results.result(parity=tuple(one)))["parity"]
    colours = {line.get_color() for line in figure.axes[0].lines if line.get_linestyle() == "None"}
    assert colours == {COLOURS[0]}


def test_errors_say_of_how_many_structures_they_are() -> None:
    good = made_results.result()
    few = tuple(msgspec.structs.replace(e, structures=3) for e in good.candidates[0].errors)
    text = page(_with_first(good, errors=few), {})
    assert "hot 600 K (3)" in text
    assert "hot 600 K (" not in page(good, {})


def test_other_crystals_than_cubes_are_told_by_volume_and_nine_constants() -> None:
    result = made_results.result(
        bulk=made_results.silicon_bulk(cubic=None),
        candidates=(made_results.candidate("constrained"),),
    )
    read = Page(page(result, {}))
    assert "volume (Å³ per atom)" in read.cells
    assert {"C11 (GPa)", "C33 (GPa)", "C13 (GPa)", "C66 (GPa)"} <= set(read.cells)
    assert f"{5.4569**3 / 8.0:.4f}" in read.text
    off = elastic_error(result.candidates[0], result.bulk)
    assert off == pytest.approx(100.0 * (75.1 - 74.73) / 130.72)


@pytest.mark.parametrize(
    ("angle", "length", "expected"),
    [(60.0, 3.8586, 5.4569), (90.0, 3.1711, 3.1711), (109.4712206, 2.7463, 3.1711)],
)
def test_lattice_constant_of_cubes_and_their_primitive_cells(
    angle: float, length: float, expected: float
) -> None:
    seen = msgspec.structs.replace(
        made_results.silicon_bulk(), lengths=(length,) * 3, angles=(angle,) * 3
    )
    assert lattice_constant(seen) == pytest.approx(expected, abs=1e-3)
    many = msgspec.structs.replace(seen, positions=[[0.0, 0.0, 0.0]] * 64)
    assert (lattice_constant(many) is None) == (angle == 90.0)
    assert lattice_constant(msgspec.structs.replace(seen, cubic=None)) is None


def test_constants_of_a_crystal_that_lost_its_symmetry() -> None:
    lost = msgspec.structs.replace(made_results.silicon_bulk(), cubic=None)
    assert constants(lost, made_results.silicon_bulk()) == pytest.approx(
        dict(zip(("C11", "C12", "C44"), made_results.CUBIC, strict=True))
    )
    assert constants(None, made_results.silicon_bulk()) == {"C11": None, "C12": None, "C44": None}


def test_numbers_as_text() -> None:
    assert [number(-1e-9, 2), number(None, 2), number(2.345, 1)] == ["0.00", "–", "2.3"]
    assert [short(57.0), short(0.05), short(123.4), short(2116.2), short(float("nan"))] == [
        *("57.0", "0.0500", "123", "2116", "–")
    ]
    assert [signed(-0.001), signed(4.4), signed(-61.2), signed(None)] == [
        *("0.00 %", "+4.40 %", "-61 %", "")
    ]


def test_kind_by_which_potentials_are_compared() -> None:
    assert hot_kind(["hot 1200 K", "vacancy 300 K", "hot 300 K", "hot 600 K"]) == "hot 600 K"
    assert hot_kind(["vacancy 300 K"]) == "vacancy 300 K"
    assert hot_kind([]) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.json cannot be written"):
        write_report(made_results.bare(), tmp_path / "none")


def test_the_weight_that_was_chosen_is_ringed() -> None:
    (axes,) = figures(made_results.result())["front"].axes
    rings = [line for line in axes.lines if line.get_markersize() > 10]
    assert len(rings) == 1
    chosen = next(p for p in made_results.result().front if p.chosen)
    assert np.allclose(rings[0].get_xydata(), [[chosen.forces, chosen.ghost]])


def _with_first(result: Result, **changes: object) -> Result:
    first = msgspec.structs.replace(result.candidates[0], **changes)
    return msgspec.structs.replace(result, candidates=(first, *result.candidates[1:]))


def test_whether_the_crystal_holds_is_told() -> None:
    result = made_results.result()
    text = page(result, {})
    words = " ".join(Page(text).words)
    assert "Stability in molecular dynamics" in words
    assert "at 1440 K for 3 ps" in words
    cells = Page(text).cells
    at = cells.index("2 of 4")
    assert cells[at + 1 : at + 3] == ["0.43, 1.7", "13"]
    assert "4 of 4" in cells
    assert "not stable in MD" not in " ".join(verdict(result).sentences)
    broken = msgspec.structs.replace(result, trials=result.trials[:1])
    judged = verdict(broken)
    assert judged.grade == "warn"
    assert "at 1440 K an atom left its site for good in 2 of 4 trajectories, first after 0.43" in (
        " ".join(judged.sentences)
    )
    none = msgspec.structs.replace(result, trials=())
    assert "Stability in molecular dynamics" not in page(none, {})
