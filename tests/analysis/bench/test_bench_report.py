"""A report survives its file, is a table and a figure, and says what was left out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from matplotlib.image import imread

from mixserver.analysis.bench.machine import describe_machine, usable_cores
from mixserver.analysis.bench.report import (
    LeftOut,
    Report,
    Row,
    Side,
    closing_lines,
    number,
    read_report,
    write_report,
)
from mixserver.cli.bench.options import table


def made_row(ratio: float = 4.0, system: str = "W crystal, all sites, float32, cpu") -> Row:
    def side(name: str, ms: float) -> Side:
        quartiles = (0.9 * ms, 1.1 * ms)
        return Side(name=name, model="MACE x", ms=ms, ms_quartiles=quartiles, ms_fastest=0.8 * ms)

    return Row(
        suite="mace",
        system=system,
        atoms=250,
        sites=250,
        fast=side("ours", 100.0),
        slow=side("theirs", 100.0 * ratio),
        pairs=7,
        ratio=ratio,
        ratio_quartiles=(0.9 * ratio, 1.1 * ratio),
        ratio_of_fastest=ratio,
        load=1.0,
        command="mixserver bench mace --sites 250",
    )


def made_report(*rows: Row) -> Report:
    return Report(
        suite="mace",
        command="mixserver bench mace",
        date="2026-11-29T02:00:00+00:00",
        seconds=12.0,
        machine=describe_machine(),
        load_start=0.5,
        load_end=None,
        rows=rows,
        left_out=(LeftOut("symmetrix", "it is not installed"),),
    )


def test_a_report_is_written_read_and_drawn(tmp_path: Path) -> None:
    report = made_report(made_row(), made_row(0.4), made_row(30.0, "W, region 6/4"))
    data, picture = write_report(report, tmp_path / "new" / "folder")
    assert (data.name, picture.name) == ("bench-mace.json", "bench-mace.png")
    assert read_report(data) == report
    assert float(imread(picture)[..., :3].std()) > 0.05
    with pytest.raises(msgspec.DecodeError):
        read_report(picture)


def test_the_table_names_engine_and_model_of_both_sides() -> None:
    lines = table(made_report(made_row())).splitlines()
    for words in ("ours", "theirs", "MACE x", "4.00x", "3.60 to 4.40"):
        assert words in lines[1]


def test_what_was_left_out_and_the_load_are_told() -> None:
    text = "\n".join(closing_lines(made_report(made_row())))
    assert "left out: symmetrix: it is not installed" in text
    assert "load 0.5 to ?" in text


def test_the_machine_is_described_without_importing_engines() -> None:
    machine = describe_machine()
    assert machine.processor
    assert 1 <= machine.usable == usable_cores() <= machine.cores
    assert machine.packages["numpy"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.999, "10.0"), (99.96, "100"), (12345.6, "12346")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
