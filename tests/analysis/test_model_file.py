"""Model files are read without running anything in them, whatever is in them."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixserver.analysis.checks.files import check_files
from mixserver.analysis.model_file import read_model_file
from mixserver.config import load_case
from mixserver.core.errors import ConfigError

INPUTS = Path(__file__).parents[2] / "inputs"
SILICON = INPUTS / "silicon_vacancy/model/si_mace.model"


def entries(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(file: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file


def test_the_models_of_the_cases() -> None:
    facts = read_model_file(SILICON)
    assert (facts.kind, facts.species, facts.dtype) == ("ScaleShiftMACE", (14,), "float32")
    assert (facts.cutoff, facts.layers, facts.receptive_field) == (5.0, 2, 10.0)
    assert facts.foreign == ()
    both = read_model_file(INPUTS / "w_he/model/w_he_mace.model")
    assert (both.species, both.cutoff, both.layers) == ((2, 74), 4.5, 2)


@pytest.mark.mace
def test_it_says_what_the_worker_says() -> None:
    from mixserver_worker.engines.mace.engine import MaceEngine

    facts = read_model_file(SILICON)
    engine = MaceEngine(str(SILICON), device="cpu", dtype="model", head=None, threads=1)
    try:
        card = engine.card
        assert card.species == facts.species
        assert card.cutoff == pytest.approx(facts.cutoff)
        assert card.receptive_field == pytest.approx(facts.receptive_field)
        assert card.dtype == facts.dtype
    finally:
        engine.close()


class Bomb:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_a_program_in_a_model_file_is_not_run_and_its_name_is_told(tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    bomb = pickle.dumps(Bomb(f"touch {mark}"), protocol=2)
    pickle.loads(bomb)  # noqa: S301 - to show that it works
    assert mark.exists()
    mark.unlink()
    content = entries(SILICON)
    (name,) = (name for name in content if name.endswith("data.pkl"))
    # it runs first, and the model is as it was
    content[name] = content[name][:2] + bomb[2:-1] + b"0" + content[name][2:]
    facts = read_model_file(write(tmp_path / "bad.model", content))
    assert not mark.exists()
    assert facts.species == (14,)
    assert facts.foreign == ("posix.system",)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x02\x96" + (1 << 40).to_bytes(8, "little") + b".",  # BYTEARRAY8 of 1 TiB
        b"\x80\x02K\x01r\xff\xff\xff\xff.",  # memo of 4 G entries
        b"\x80\x02B\xff\xff\xff\x7f.",  # 2 GiB of bytes that are not there
        b"\x80\x02cos\nsystem\n(U\x04trueo0K\x01.",  # an instance of a function
        b"\x80\x02(iposix\nsystem\n.",
        b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s.",  # a key with 2^60 items
        b"\x80\x02K\x01.",
        b"",
    ],
)
def test_a_hostile_pickle_is_refused_in_words(tmp_path: Path, payload: bytes) -> None:
    content = entries(SILICON)
    (name,) = (name for name in content if name.endswith("data.pkl"))
    file = write(tmp_path / "bad.model", {**content, name: payload})
    with pytest.raises(ConfigError, match=r"bad\.model"):
        read_model_file(file)


def test_files_that_are_no_archives_are_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "x.model"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_model_file(file)
    for data in (b"", b"version https://git-lfs.github.com/spec/v1\n", SILICON.read_bytes()[:9000]):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=r"no archive of torch\.save"):
            read_model_file(file)
    for content in ({}, {"a/data.pkl": b"N."}, {"a/code/x.py": b"", "a/data.pkl": b"N."}):
        with pytest.raises(ConfigError, match=r"x\.model"):
            read_model_file(write(file, content))


PICKLE = next(data for name, data in entries(SILICON).items() if name.endswith("data.pkl"))


@given(st.integers(0, len(PICKLE) - 1), st.binary(min_size=1, max_size=8))
@example(at=len(PICKLE) - 1, garbage=b"r")  # ends within the number of an instruction
def test_a_damaged_file_is_read_or_refused(at: int, garbage: bytes) -> None:
    content = entries(SILICON)
    (name,) = (name for name in content if name.endswith("data.pkl"))
    content[name] = PICKLE[:at] + garbage + PICKLE[at + len(garbage) :]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for entry, data in content.items():
            archive.writestr(entry, data)
    stream.seek(0)
    try:
        read_model_file(stream)  # type: ignore[arg-type]
    except ConfigError:
        return


def silicon_case(folder: Path, *changes: tuple[str, str]) -> Path:
    case = folder / "case"
    shutil.copytree(INPUTS / "silicon_vacancy", case, ignore=shutil.ignore_patterns("runs"))
    text = (case / "mix.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (case / "mix.toml").write_text(text)
    return case


def about_model(case: Path) -> list[tuple[str, str]]:
    found, _, _ = check_files(load_case(case))
    return [(f.level, f.message) for f in found if f.what.endswith("model file")]


def test_check_reports_the_file_and_what_does_not_fit(tmp_path: Path) -> None:
    case = silicon_case(tmp_path)
    ((level, words),) = about_model(case)
    assert level == "ok"
    for part in ("ScaleShiftMACE for Si", "5 Å x 2 layers", "weights in float32"):
        assert part in words
    shutil.copy(INPUTS / "w_he/model/w_he_mace.model", case / "model/si_mace.model")
    levels = [level for level, _ in about_model(case)]
    assert levels == ["ok", "error"]
    assert "the structure has Si too" in about_model(case)[1][1]
    (case / "model/si_mace.model").unlink()
    assert [level for level, _ in about_model(case)] == ["error"]


def test_a_receptive_field_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    case = silicon_case(tmp_path, ("[models.expensive]", "[models.expensive]\nreceptive_field = 5"))
    assert [level for level, _ in about_model(case)] == ["ok", "error"]
    assert "10 Å far (2 layers)" in about_model(case)[1][1]
