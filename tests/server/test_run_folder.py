"""A run's folder: what is linked, what is copied, and which paths become absolute."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mixserver.config import Case, load_case
from mixserver.core.errors import ConfigError
from mixserver.server.run_folder import fill_run_folder, local_prefix, restore_socket_prefix

INPUTS = Path(__file__).parents[2] / "inputs"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    folder = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
    return load_case(folder)


def laid(case: Case, *pairs: tuple[str, str], name: str = "input.xml") -> tuple[Path, str]:
    """The run's folder and the text of its input."""
    source = case.folder / name
    text = source.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    source.write_text(text)
    folder = case.folder / "runs" / "0001"
    folder.mkdir(parents=True)
    return folder, fill_run_folder(case, folder, source, source.name, None).read_text()


def test_a_plain_case_is_linked_and_its_input_copied_byte_for_byte(case: Case) -> None:
    folder, text = laid(case)
    assert text == (case.folder / "input.xml").read_text()
    assert (folder / "init.xyz").resolve() == case.folder / "init.xyz"
    assert not (folder / "input.xml").is_symlink()
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("written", "own"),
    [("simulation", "simulation"), ("out/sim", "sim"), ("/scratch/me/sim", "sim"),
     ("../out/sim", "sim"), ("out/", "out"), ("", "i-pi"), ("../", "i-pi")],
)  # fmt: skip
def test_outputs_lie_in_the_runs_folder(written: str, own: str, case: Case) -> None:
    assert local_prefix(written) == own
    _, text = laid(case, ("<output prefix='simulation'>", f'<output  prefix = "{written}" >'))
    assert f'<output  prefix = "{own}" >' in text


def test_paths_that_mean_another_place_become_absolute(case: Case) -> None:
    common = case.folder.parent / "common"
    common.mkdir()
    for name in ("init.xyz", "A.matrix", "pes.py", "m.json"):
        (common / name).write_text("x")
    (case.folder / "data").mkdir()
    (case.folder / "data" / "own.xyz").write_text("x")
    _, text = laid(
        case,
        ("<file mode='xyz'> init.xyz </file>",
         "<!-- ../common/init.xyz --><file mode='xyz'>\n ../common/init.xyz\n</file>"
         "<file mode='xyz'> data/own.xyz </file><file mode='xyz'> ../common/none.xyz </file>"),
        ("<prng>", "<ffdirect name='d'><pes>custom</pes>"
         "<parameters>{ pes_path: ../common/pes.py, config: '../common/m.json', k: 1/2 }"
         "</parameters></ffdirect><prng>"),
        ("<tau units='femtosecond'> 200 </tau>", "<A mode='file'> ../common/A.matrix </A>"),
    )  # fmt: skip
    assert "<!-- ../common/init.xyz -->" in text
    assert f"<file mode='xyz'>\n {common}/init.xyz\n</file>" in text
    assert "<file mode='xyz'> data/own.xyz </file>" in text
    assert "<file mode='xyz'> ../common/none.xyz </file>" in text
    assert f"{{ pes_path: {common}/pes.py, config: '{common}/m.json', k: 1/2 }}" in text
    assert f"<A mode='file'> {common}/A.matrix </A>" in text


def test_an_input_in_a_folder_of_its_own_means_the_files_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    shutil.copytree(INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
    (folder / "ipi").mkdir()
    shutil.move(folder / "input.xml", folder / "ipi" / "input.xml")
    (folder / "ipi" / "init.xyz").write_text("another structure")
    (folder / "ipi" / "minimal").write_text("a file named like the address")
    mix = folder / "mix.toml"
    mix.write_text(mix.read_text() + '\n[ipi]\ninput = "ipi/input.xml"\n')
    case = load_case(folder)
    run = folder / "runs" / "0001"
    run.mkdir(parents=True)
    text = fill_run_folder(case, run, folder / "ipi" / "input.xml", "input.xml", None).read_text()
    assert f"<file mode='xyz'> {folder}/ipi/init.xyz </file>" in text
    assert "<address> minimal </address>" in text


def test_what_ipi_would_write_is_never_the_cases_own(case: Case) -> None:
    """i-PI appends to its outputs after a restart, and writes checkpoints over what is there."""
    leftovers = (
        "simulation.out simulation.chk #simulation.out#0# EXIT RESTART server.log mixserver.jsonl "
        "worker-cheap-0-0.log worker-notes.py"
    )
    for name in leftovers.split():
        (case.folder / name).write_text("mine")
    folder, _ = laid(
        case, ("<file mode='xyz'> init.xyz </file>", "<file mode='chk'> simulation.chk </file>")
    )
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "README.md", "init.xyz", "input.xml", "mix.toml", "simulation.chk", "worker-notes.py",
    ]  # fmt: skip
    assert not (folder / "simulation.chk").is_symlink()
    assert (folder / "simulation.chk").read_text() == "mine"


def test_a_broken_input_is_told(case: Case) -> None:
    with pytest.raises(ConfigError, match="not valid XML"):
        laid(case, ("</simulation>", "</simulatio>"))


def test_what_a_run_leaves_names_no_private_sockets_and_keeps_its_age(tmp_path: Path) -> None:
    """The newest checkpoint is what a killed run is gone on from."""
    text = "<simulation sockets_prefix='{}'><!-- ä --></simulation>"
    names = ["x.chk_9", "x.chk_10", "x.chk_2", "RESTART", "x.chk_1"]
    for age, name in enumerate(names):
        (tmp_path / name).write_text(text.format("/tmp/one/"), encoding="latin-1")
        os.utime(tmp_path / name, ns=(age, age))
    (tmp_path / "simulation.out").write_text(text.format("/tmp/one/"))
    (tmp_path / "case.chk").symlink_to("simulation.out")
    restore_socket_prefix(tmp_path, "/tmp/one/", "/tmp/ipi_")
    for age, name in enumerate(names):
        file = tmp_path / name
        assert file.read_text(encoding="latin-1") == text.format("/tmp/ipi_")
        assert file.stat().st_mtime_ns == age
    assert (tmp_path / "case.chk").read_text() == text.format("/tmp/one/")
