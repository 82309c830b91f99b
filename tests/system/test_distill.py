"""`mixserver distill` as a user has it: real i-PI, real workers, real LAMMPS, real SIGKILL."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from command_here import mixserver_here
from limits import HANG_S

pytestmark = [pytest.mark.lammps, pytest.mark.timeout(1800)]
MIXSERVER = Path(sys.executable).with_name("mixserver")

RECIPE = """
name = "ar"
structure = "ar.xyz"
{top}
[expensive]
command = ["toy", "--epsilon", "0.0104", "--sigma", "3.4", "--cutoff", "6.5"]
[potential]
twojmax = {twojmax}
cutoff = 4.6
[pair]
functions = {functions}
cutoff = 6.6
[soft]
temperatures = [{temperature}]
atoms = 100
snapshots = 14
timestep_fs = 5.0
equilibration_ps = 0.2
every_ps = 0.1
strained = 3
vacancies = 2
[hold]
ps = 0.5
copies = 2
[sweep]
twojmax = [2]
cutoffs = [4.6]
{more}
"""
ARGON = """4
Lattice="5.3 0.0 0.0 0.0 5.3 0.0 0.0 0.0 5.3" Properties=species:S:1:pos:R:3 pbc="{pbc}"
Ar 0.0 0.0 0.0
Ar 0.0 2.65 2.65
Ar 2.65 0.0 2.65
Ar 2.65 2.65 0.0
"""


def recipe(
    folder: Path,
    *,
    temperature: float = 30.0,
    twojmax: int = 2,
    functions: int = 16,
    top: str = "",
    more: str = "",
    pbc: str = "T T T",
) -> Path:
    (folder / "ar.xyz").write_text(ARGON.format(pbc=pbc))
    text = RECIPE.format(
        temperature=temperature, twojmax=twojmax, functions=functions, top=top, more=more
    )
    (folder / "distill.toml").write_text(text)
    return folder


def distill(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MIXSERVER, "distill", folder, *options],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recipe(tmp_path_factory.mktemp("argon"))
    ended = distill(folder, "--sweep")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "constrained" in ended.stdout
    return folder


def test_argon_comes_out_as_it_went_in(done: Path) -> None:
    """A pair potential is distilled into pair functions and a SNAP: almost nothing is lost."""
    result = json.loads((done / "distilled/report.json").read_bytes())
    best, model = result["candidates"][0], result["portrait"]
    assert best["label"] == "constrained"
    assert best["portrait"]["volume"] == pytest.approx(model["volume"], rel=1e-5)
    np.testing.assert_allclose(best["portrait"]["cubic"], model["cubic"], rtol=0.01)
    forces = {errors["of"]: errors["forces"] for errors in best["errors"]}
    assert forces["hot 30 K"] < 2e-3
    free = next(c for c in result["candidates"] if c["label"] == "unconstrained")
    assert free["constraints"] == 0
    assert best["constraints"] >= 5
    ghosts = {ghost["blend"]: ghost["largest"] for ghost in best["ghosts"]}
    assert ghosts[4.0] < 1e-3
    assert best["microseconds"] > 0.0
    assert result["sweep"][0]["label"] == result["recommended"] == "2J = 2, 4.6 Å"
    html = (done / "distilled/report.html").read_text()
    assert "constrained" in html
    assert "data:image/png;base64," in html


def test_what_was_written_runs_in_a_worker(done: Path) -> None:
    told = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; import numpy as np\n"
            "from mixserver_worker.engines.lammps.engine import LammpsEngine\n"
            "from mixserver.wire.worker import Evaluate\n"
            "x = np.array([[0, 0, 0], [0, 2.65, 2.65], [2.65, 0, 2.65], [2.65, 2.65, 0]])\n"
            "print(LammpsEngine(Path(sys.argv[1])).evaluate(Evaluate(job=1, stream=1, positions=x,"
            "numbers=np.full(4, 18, np.int32), cell=5.3 * np.eye(3), pbc=(True, True, True)))"
            ".energy)",
            str(done / "distilled/ar.in"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    result = json.loads((done / "distilled/report.json").read_bytes())
    assert float(told.stdout) / 4 == pytest.approx(result["portrait"]["energy"], abs=2e-3)


def test_a_second_start_makes_nothing_again_and_repeats_the_verdict(done: Path) -> None:
    folder = done / "distilled"
    made = {file: file.stat().st_mtime_ns for file in folder.glob("*/*.np[yz]")}
    before = np.loadtxt(folder / "ar.snapcoeff", skiprows=4)
    assert len(made) > 20
    ended = distill(done)
    assert ended.returncode == 0
    assert "Pass: lattice" in ended.stdout
    assert {file: file.stat().st_mtime_ns for file in made} == made
    # not to the last digit: sums depend on where arrays lie in memory
    np.testing.assert_allclose(np.loadtxt(folder / "ar.snapcoeff", skiprows=4), before, rtol=1e-6)


@pytest.mark.physics
def test_frames_of_a_run_are_fitted_too(done: Path, tmp_path: Path) -> None:
    """The loop of refitting: what was seen where models disagree comes back as structures."""
    folder = tmp_path / "again"
    shutil.copytree(done, folder)
    crystal = read(folder / "ar.xyz") * (3, 3, 3)
    frames = []
    for seed in range(8):
        atoms = crystal.copy()
        atoms.rattle(0.3, seed=seed)
        frames.append(atoms)
    write(folder / "regions.xyz", frames, format="extxyz")
    recipe(folder, more='[given]\nfiles = ["regions.xyz"]')
    made = {file: file.stat().st_mtime_ns for file in (folder / "distilled/soft").glob("*.npz")}
    ended = distill(folder, "--quiet")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert len(list((folder / "distilled/given").glob("given-*.npz"))) == 8
    result = json.loads((folder / "distilled/report.json").read_bytes())
    before = json.loads((done / "distilled/report.json").read_bytes())
    forces = {errors["of"]: errors["forces"] for errors in result["candidates"][0]["errors"]}
    assert forces["given"] < 0.02
    assert "given" not in {errors["of"] for errors in before["candidates"][0]["errors"]}
    assert (folder / "distilled/ar.snapcoeff").read_bytes() != (
        done / "distilled/ar.snapcoeff"
    ).read_bytes()


@pytest.mark.physics
def test_what_is_not_fit_to_mix_with_ends_in_words_and_status_1(done: Path, tmp_path: Path) -> None:
    """A SNAP fitted to energies alone holds no crystal; what was made stays."""
    folder = tmp_path / "unfit"
    shutil.copytree(done, folder)
    energies = "[hard]\nlattice = false\nelastic = false\n[fit]\nforce = 0.0\nvirial = 0.0\n"
    recipe(folder, functions=0, more=f"{energies}ridge = 0.1\n[partition]\nregions = 0\n")
    ended = distill(folder)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "Fail: not fit to mix with. It has no stable crystal" in ended.stderr
    assert "potential.twojmax (now 2)" in ended.stderr
    assert "report.html" in ended.stdout
    assert (folder / "distilled/ar.in").stat().st_mtime > (done / "distilled/ar.in").stat().st_mtime


def test_a_potential_to_compare_is_tried_before_anything_is_asked(tmp_path: Path) -> None:
    folder = recipe(tmp_path, top='compare = ["bad.in"]')
    (folder / "bad.in").write_text("pair_style nonsense\n")
    ended = mixserver_here("distill", folder, "--quiet")
    assert ended.returncode == 1
    assert "compare names" in ended.stderr
    assert "nonsense" in ended.stderr
    assert not (folder / "distilled/crystal").exists()


@pytest.mark.physics
def test_a_killed_distillation_goes_on(tmp_path: Path) -> None:
    folder = recipe(tmp_path)
    with subprocess.Popen(
        [MIXSERVER, "distill", folder, "--quiet"], stderr=subprocess.DEVNULL
    ) as running:
        until = time.monotonic() + HANG_S
        while not list((folder / "distilled/hot").glob("**/*")):
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.5)
        os.kill(running.pid, signal.SIGKILL)
    assert not (folder / "distilled/ar.in").exists()
    portrait = (folder / "distilled/crystal/portrait.json").stat().st_mtime_ns
    ended = distill(folder, "--quiet")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (folder / "distilled/ar.in").exists()
    assert (folder / "distilled/crystal/portrait.json").stat().st_mtime_ns == portrait


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 1500.0}, ("1500 K", "temperature")),
        pytest.param(
            {"twojmax": 1, "functions": 0},
            ("independent constraints", "twojmax"),
            marks=pytest.mark.physics,
        ),
        ({"more": "[partition]\ngrups = 3"}, ("partition.grups", "did you mean")),
        ({"pbc": "T T F"}, ("does not repeat", "bulk")),
        ({"top": 'compare = ["none.in"]'}, ("none.in", "does not exist")),
    ],
)
def test_what_cannot_be_is_said(
    change: dict[str, object], words: tuple[str, ...], tmp_path: Path
) -> None:
    folder = recipe(tmp_path, **change)  # type: ignore[arg-type]
    ended = mixserver_here("distill", folder, "--quiet")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr, ended.stderr[-1500:]


def test_a_slab_is_refused(tmp_path: Path) -> None:
    folder = recipe(tmp_path)
    text = (folder / "ar.xyz").read_text().replace("0.0 0.0 5.3", "0.0 0.0 25.3")
    (folder / "ar.xyz").write_text(text)
    ended = mixserver_here("distill", folder, "--quiet")
    assert ended.returncode == 1
    assert "bulk crystal" in ended.stderr
