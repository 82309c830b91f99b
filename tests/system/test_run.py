"""`mixserver run` and `serve` as a user runs them: real i-PI, real workers, real signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from command_here import mixserver_here
from command_line import BIN, edit, minimal_case, mixserver, mixserver_done
from limits import HANG_S

from mixserver.analysis.records import read_reports

Whole = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the minimal case."""
    return minimal_case(tmp_path)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> Whole:
    """The minimal case after a whole run, and what that said; to be copied, not changed."""
    case = minimal_case(tmp_path_factory.mktemp("whole"))
    edit(case / "input.xml", "filename='pos' stride='50'", "filename='pos' stride='10'")
    return case, mixserver("run", case)


@pytest.fixture(scope="module")
def five_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The minimal case after a run of five steps; to be copied, not changed."""
    case = minimal_case(tmp_path_factory.mktemp("short"))
    mixserver_done("run", case, "--quiet", "--steps", "5")
    return case


def _copy(case: Path, parent: Path) -> Path:
    """A copy with its runs."""
    return Path(shutil.copytree(case, parent / "case", symlinks=True))


def _pids(run: Path) -> list[int]:
    """Every process the run has started, from its log."""
    lines = (run / "server.log").read_text().splitlines()
    return [entry["pid"] for entry in map(json.loads, lines) if entry["event"] == "started"]


def _pid(run: Path, process: str) -> int:
    lines = (run / "server.log").read_text().splitlines()
    events = [e for e in map(json.loads, lines) if e["event"] == "started"]
    return next(e["pid"] for e in reversed(events) if e["process"].startswith(process))


def _gone(pids: list[int]) -> bool:
    return not [p for p in pids if Path(f"/proc/{p}/cmdline").exists() and _alive(p)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Running:
    """A `mixserver run` in the background, ended for certain."""

    def __init__(self, case: Path, *arguments: str) -> None:
        earlier = len(list((case / "runs").glob("[0-9]*")))
        self.run = case / f"runs/{earlier + 1:04d}"
        self.process = subprocess.Popen(
            [BIN / "mixserver", "run", case, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, evaluations: int, timeout: float = HANG_S) -> None:
        """Wait for so many evaluations of the newest run."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            file = self.run / "mixserver.jsonl"
            if file.exists() and len(file.read_bytes().splitlines()) >= evaluations:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.process.kill()
        pytest.fail(f"no {evaluations} evaluations: {self.process.communicate()[0]}")

    def end(self, timeout: float = HANG_S) -> tuple[int, str]:
        try:
            output, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            pytest.fail(f"did not end within {timeout} s: {output}")
        return self.process.returncode, output


@pytest.fixture
def long_case(case: Path) -> Iterator[Path]:
    """The minimal case, too long to end by itself; nothing of it may outlive the test."""
    edit(case / "input.xml", "<total_steps> 100", "<total_steps> 100000")
    yield case
    for run in (case / "runs").glob("[0-9]*"):
        left = [pid for pid in _pids(run) if _alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"processes left behind by {run.name}: {left}"


def test_the_minimal_case_runs(whole: Whole) -> None:
    case, done = whole
    assert done.returncode == 0, done.stderr
    assert "results in" in done.stdout
    assert done.stderr.count("done  step 100/100") == 1
    run = case / "runs/0001"
    reports = read_reports(run)
    assert len(reports) == 101
    assert all(0 < r.core < r.core + r.blend < r.halo for r in reports)
    assert {r.energy_is for r in reports} == {"mixed"}
    assert max(r.net_force for r in reports) > 0
    assert (run / "RESTART").exists()
    assert "EXTRAS(core,blend,gap_rms,pull_max)" in (run / "simulation.mix_0").read_text()
    assert _gone(_pids(run))
    assert sorted(p.name for p in case.iterdir()) == [
        "README.md",
        "init.xyz",
        "input.xml",
        "mix.toml",
        "runs",
    ]


def test_a_second_toml_beside_the_first_leaves_it_alone(case: Path) -> None:
    first = (case / "mix.toml").read_text()
    other = first + "\n[record]\nevery = 2\n"
    (case / "other.toml").write_text(other)
    done = mixserver("run", case / "other.toml", "--steps", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (case / "mix.toml").read_text() == first
    copy = case / "runs/0001/mix.toml"
    assert not copy.is_symlink()
    assert copy.read_text() == other


def test_ctrl_c_ends_all_in_order_and_a_restart_goes_on(long_case: Path) -> None:
    first = Running(long_case)
    first.until(10)
    first.process.send_signal(signal.SIGINT)
    code, output = first.end()
    assert code == 130, output
    assert "--restart" in output
    run = long_case / "runs/0001"
    assert (run / "RESTART").exists()
    assert _gone(_pids(run))
    restart = (run / "RESTART").read_text()
    step = int(re.findall(r"<step>\s*(\d+)", restart)[0])
    assert step >= 9
    assert "sockets_prefix='/tmp/ipi_'" in restart
    second = Running(long_case, "--restart")
    second.until(5)
    second.process.send_signal(signal.SIGTERM)
    code, output = second.end()
    assert code == 130, output
    steps = np.loadtxt(long_case / "runs/0002/simulation.out")[:, 0]
    assert steps[0] >= step


def test_a_restart_goes_on_with_what_regions_remember(long_case: Path) -> None:
    _by_force(long_case)
    text = (
        (long_case / "mix.toml")
        .read_text()
        .replace(
            'seeds = { kind = "atoms", indices = [132] }',
            "hysteresis = { time_in = 40.0, time_out = 40.0 }\n"
            'seeds = { kind = "criterion", compute = "coord/atom cutoff 4.5", low = 99.0, '
            "every = 5, initial = [132] }",
        )
    )
    (long_case / "mix.toml").write_text(text)  # after 5 evaluations the region only fades
    first = Running(long_case)
    first.until(15)
    first.process.send_signal(signal.SIGINT)
    assert first.end()[0] == 130
    last = read_reports(long_case / "runs/0001")[-1]
    assert 0 < last.blend
    assert last.seeds == last.core == 0
    second = Running(long_case, "--restart")
    second.until(3)
    second.process.send_signal(signal.SIGINT)
    assert second.end()[0] == 130
    reports = read_reports(long_case / "runs/0002")
    assert reports[0].seeds == reports[0].core == 0  # not the initial seeds again
    # RESTART is of the last step, or of one before where i-PI had no time to write it
    fading = [one.blend for one in read_reports(long_case / "runs/0001") if one.seeds == 0]
    assert min(fading) - 6 < reports[0].blend < max(fading) + 6


def test_a_killed_ipi_ends_the_run_with_its_status(long_case: Path) -> None:
    running = Running(long_case)
    running.until(5)
    os.kill(_pid(running.run, "i-PI"), signal.SIGKILL)
    code, output = running.end()
    assert code == 1, output
    assert "i-PI was killed by SIGKILL (status -9" in output
    assert output.count("SIGKILL") == 1  # one cause, one message


def test_a_killed_worker_changes_nothing(whole: Whole, tmp_path: Path) -> None:
    case = _copy(whole[0], tmp_path)
    running = Running(case)
    running.until(20)
    os.kill(_pid(running.run, "expensive"), signal.SIGKILL)
    os.kill(_pid(running.run, "cheap"), signal.SIGKILL)
    code, output = running.end()
    assert code == 0, output
    for file in ("simulation.pos_0.xyz", "simulation.out"):
        first, second = ((case / f"runs/{run}" / file).read_text() for run in ("0001", "0002"))
        assert first == second
    assert "starting it again" in output


@pytest.mark.physics
def test_a_role_that_dies_whole_and_a_server_that_stands_still_change_nothing(case: Path) -> None:
    with (case / "mix.toml").open("a") as file:
        file.write("\n[workers]\npatience_s = 2.0\nheartbeat_s = 0.5\nfailures = 2\n")
    edit(case / "mix.toml", "[[local]]", "[[local]]\ncount = 3\nrestarts = 6")
    assert mixserver("run", case, "--quiet").returncode == 0
    running = Running(case)
    for evaluations, role in ((15, "expensive"), (40, "cheap"), (65, "expensive")):
        running.until(evaluations)
        started = map(json.loads, (running.run / "server.log").read_text().splitlines())
        pids = [e["pid"] for e in started if e["event"] == "started"]
        words = [(Path(f"/proc/{pid}/cmdline"), pid) for pid in pids]
        mine = [pid for file, pid in words if file.exists() and role in file.read_text()]
        assert len(mine) == 3
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
        running.until(evaluations + 10)
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(5.0)  # twice its patience, and the workers'
        running.process.send_signal(signal.SIGCONT)
    code, output = running.end()
    assert code == 0, output
    first, second = ((case / f"runs/{run}/simulation.out").read_text() for run in ("0001", "0002"))
    assert first == second


def test_nobody_left_stops_the_run_if_asked_to(long_case: Path) -> None:
    text = (long_case / "mix.toml").read_text()
    text = text.replace('role = "expensive"', 'role = "expensive"\nrestarts = 0')
    (long_case / "mix.toml").write_text(
        f'{text}\n[workers]\nwhen_none = "stop"\npatience_s = 2.0\ndoor = "ipc://{long_case}/d"\n'
    )
    running = Running(long_case)
    running.until(5)
    os.kill(_pid(running.run, "expensive"), signal.SIGKILL)
    code, output = running.end()
    assert code == 1, output
    assert "expensive" in output
    assert (long_case / "runs/0001/RESTART").exists()
    assert (long_case / "runs/0001/failed.xyz").exists()


def _hold_without_expensive(case: Path) -> Running:
    """A run that waits for an expensive worker that could come from anywhere."""
    text = (case / "mix.toml").read_text().replace('"expensive"', '"expensive"\nrestarts = 0')
    (case / "mix.toml").write_text(f'{text}\n[workers]\ndoor = "ipc://{case}/door"\n')
    running = Running(case)
    running.until(5)
    os.kill(_pid(running.run, "expensive"), signal.SIGKILL)
    time.sleep(1.0)
    assert running.process.poll() is None
    return running


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.physics), 3])
def test_ctrl_c_ends_a_run_that_nobody_answers(long_case: Path, times: int) -> None:
    running = _hold_without_expensive(long_case)
    for _ in range(times):
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    code, output = running.end()
    assert code == 130, output
    restart = (long_case / "runs/0001/RESTART").read_text()
    assert "sockets_prefix='/tmp/ipi_'" in restart
    assert len(re.findall(r"<step>\s*(\d+)", restart)) == 1


def test_the_last_worker_of_a_private_door_ends_the_run(long_case: Path) -> None:
    text = (long_case / "mix.toml").read_text()
    (long_case / "mix.toml").write_text(text.replace('"expensive"', '"expensive"\nrestarts = 0'))
    running = Running(long_case)
    running.until(5)
    os.kill(_pid(running.run, "expensive"), signal.SIGKILL)
    code, output = running.end()
    assert code == 1, output
    assert output.count("no other can join") == output.count("SIGKILL") == 1
    assert "The run ended after step" in output
    assert f"mixserver run {long_case} --restart" in output
    assert "looking for" not in output  # the log's usual lines, with a folder nobody knows
    assert (long_case / "runs/0001/RESTART").exists()


def test_a_run_that_is_killed_outright_leaves_nothing_behind(long_case: Path) -> None:
    running = Running(long_case)
    running.until(5)
    running.process.kill()
    running.end()
    pids = _pids(running.run)
    assert len(pids) == 3
    deadline = time.monotonic() + HANG_S
    while not _gone(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _gone(pids)
    assert (running.run / "RESTART").exists()


def test_a_socket_that_ipi_never_uses_does_not_hold_the_end(case: Path) -> None:
    text = (case / "input.xml").read_text()
    spare = "<ffsocket name='spare' mode='unix'> <address> spare </address> </ffsocket>\n  <system>"
    text = text.replace("<system>", spare)
    text = text.replace("</forces>", "<force forcefield='spare' weight='0'/> </forces>")
    (case / "input.xml").write_text(text)
    edit(case / "mix.toml", 'address = "unix:minimal"', 'address = ["unix:minimal", "unix:spare"]')
    done = mixserver("run", case, "--steps", "5")
    assert done.returncode == 0, done.stderr
    assert len(read_reports(case / "runs/0001")) == 6


def test_a_finished_run_goes_on_if_told_how_far(five_steps: Path, tmp_path: Path) -> None:
    case = _copy(five_steps, tmp_path)
    assert len(read_reports(case / "runs/0001")) == 6
    again = mixserver_here("run", case, "--restart")
    assert again.returncode == 1
    assert "has made 5 of 5 steps already" in again.stderr
    assert again.stderr.endswith(f"mixserver run {case} --restart --steps 10\n")
    assert (case / "runs/latest").resolve() == (case / "runs/0001").resolve()
    assert not (case / "runs/0002").exists()
    longer = mixserver("run", case, "--restart", "--steps", "15")
    assert longer.returncode == 0, longer.stderr
    # so short a run may end before two of its steps were seen
    assert re.search(r"step 15/15  (\S+ (steps/s|s/step)  )?T ", longer.stderr)
    run = case / "runs/latest"
    steps = np.loadtxt(run / "simulation.out")[:, 0]
    assert (steps[0], steps[-1]) == (6, 15)
    assert not (run / "simulation.out").read_text().startswith("#")  # so names must be known
    assert mixserver_here("plot", run).returncode == 0


def test_other_elements_in_ipis_file_end_the_run_before_it_begins(case: Path) -> None:
    lines = (case / "init.xyz").read_text().splitlines()
    lines[7] = lines[7].replace("Ar", "Kr")
    (case / "swapped.xyz").write_text("\n".join(lines) + "\n")
    edit(case / "input.xml", "init.xyz", "swapped.xyz")
    done = mixserver_here("run", case)
    assert done.returncode == 1
    assert "order" in done.stderr
    assert not (case / "runs/0001/i-pi.log").exists()


def test_a_spoilt_memory_is_said(five_steps: Path, tmp_path: Path) -> None:
    case = _copy(five_steps, tmp_path)
    (case / "runs/0001/region.json").write_text("nonsense")
    done = mixserver_here("run", case, "--restart", "--steps", "9")
    assert done.returncode == 1
    assert "region.json" in done.stderr


def test_another_number_of_atoms_ends_the_run_before_it_begins(long_case: Path) -> None:
    lines = (long_case / "init.xyz").read_text().splitlines()
    (long_case / "fewer.xyz").write_text("\n".join(["255", *lines[1:-1]]) + "\n")
    edit(long_case / "input.xml", "init.xyz", "fewer.xyz")
    done = mixserver_here("run", long_case)
    assert done.returncode == 1
    assert "255" in done.stderr
    assert "256" in done.stderr


def test_a_worker_that_cannot_start_is_quoted(case: Path) -> None:
    edit(
        case / "mix.toml",
        'command = ["toy", "--epsilon", "0.0120", "--sigma", "3.4", "--cutoff", "7.0"]',
        'command = ["lammps", "nowhere.in"]',
    )
    done = mixserver("run", case)
    assert done.returncode == 1
    assert "ended with status" in done.stderr
    assert "nowhere.in" in done.stderr
    assert _gone(_pids(case / "runs/0001"))


def test_other_addresses_are_said_before_anything_starts(case: Path) -> None:
    edit(case / "mix.toml", "unix:minimal", "unix:maximal")
    done = mixserver_here("run", case)
    assert done.returncode == 1
    assert "make them the same" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_error_is_one_line_and_traceback_shows_the_rest(case: Path) -> None:
    edit(case / "mix.toml", "blend_width", "blend_widht")
    done = mixserver("run", case)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: mix.toml: region.blend_widht is not a setting; did you mean region.blend_width?\n"
    )
    assert "Traceback" in mixserver("--traceback", "run", case).stderr


def test_everything_can_be_started_by_hand(case: Path, tmp_path: Path) -> None:
    edit(
        case / "input.xml",
        ("<total_steps> 100", "<total_steps> 20"),
        ("stride='50'", "stride='10'"),
    )
    door = f"ipc://{tmp_path}/door"
    prefix = f"{tmp_path}/ipi_"
    text = (case / "mix.toml").read_text()
    text = text[: text.index("[[local]]")].replace(
        'structure = "init.xyz"', f'structure = "init.xyz"\nsockets_prefix = "{prefix}"'
    )
    (case / "mix.toml").write_text(f'{text}\n[workers]\ndoor = "{door}"\n')
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    toy = [BIN / "mixserver-worker", "toy", "--server", door, "--cutoff", "7", "--sigma", "3.4"]
    workers = [  # before there is a server
        subprocess.Popen([*toy, "--role", "cheap", "--epsilon", "0.0104"], **quiet),
        subprocess.Popen([*toy, "--role", "expensive", "--epsilon", "0.0120"], **quiet),
    ]
    server = subprocess.Popen(
        [BIN / "mixserver", "serve", case],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ipi = subprocess.Popen([BIN / "i-pi", "-S", prefix, "input.xml"], cwd=case, **quiet)
    try:
        output, _ = server.communicate(timeout=HANG_S)
        assert server.returncode == 0, output
        assert "i-PI sent EXIT" in output
        assert ipi.wait(20) == 0
        assert [worker.wait(10) for worker in workers] == [0, 0]
        assert len(read_reports(case / "runs/latest")) == 21
        frames = ase.io.read(case / "simulation.pos_0.xyz", index=":", format="xyz")
        assert len(frames) == 3
    finally:
        for process in (server, ipi, *workers):
            process.kill()
            process.wait()


def _by_force(case: Path) -> None:
    """Have the minimal case mix forces."""
    edit(case / "mix.toml", "follow = true", "follow = false")
    edit(case / "mix.toml", 'kind = "energy"', 'kind = "force"')


def test_check_finds_nothing_wrong_with_the_minimal_case(case: Path) -> None:
    done = mixserver("check", case, "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    looked = {finding["what"] for finding in findings}
    assert {
        "atoms",
        "address",
        "region",
        "zero",
        "forces of the mixed energy",
        "virial of the mixed energy",
        "ghost forces",
        "halo",
        "cost",
        "forces of cheap",
        "virial of cheap",
        "forces of expensive",
        "virial of expensive",
        "bulk",
        "bulk lattice",
        "bulk elastic",
        "bulk forces",
        "bulk energy",
    } <= looked
    assert all(f["level"] != "error" for f in findings)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("mix.toml", "indices = [132]", "indices = [256]", "counted from 0"),
        ("mix.toml", 'structure = "init.xyz"', 'structure = "none.xyz"', "does not exist"),
        ("mix.toml", 'address = "unix:minimal"', 'address = "unix:m"', "make them the same"),
        ("input.xml", "mode='nvt'", "mode='npt'", "the cheap model's pressure alone"),
        ("input.xml", "mode='nvt'", "mode='nve'", "use a thermostat"),
        ("input.xml", "pbc='false'", "pbc='True'", "leave it 'False'"),
        ("input.xml", "init.xyz", "swapped.xyz", "they must be in the same order"),
    ],
)
def test_check_says_what_is_wrong(case: Path, file: str, old: str, new: str, said: str) -> None:
    lines = (case / "init.xyz").read_text().splitlines()
    lines[7] = lines[7].replace("Ar", "Kr")
    (case / "swapped.xyz").write_text("\n".join(lines) + "\n")
    if "mode=" in old:
        assert said not in mixserver_here("check", case, "--quick").stdout
        _by_force(case)
    edit(case / file, old, new)
    done = mixserver_here("check", case, "--quick")
    assert said in done.stdout
    assert done.returncode == int("ERROR" in done.stdout)


def test_check_warns_of_a_cell_that_is_too_small(case: Path) -> None:
    edit(case / "mix.toml", "core_radius = 4.0", "core_radius = 9.0")
    done = mixserver_here("check", case)
    assert done.returncode == 0, done.stdout
    assert "hold the whole cell" in done.stdout


def test_check_says_which_model_it_cannot_ask(case: Path) -> None:
    text = (case / "mix.toml").read_text()
    (case / "mix.toml").write_text(text[: text.rindex("[[local]]")])
    done = mixserver_here("check", case)
    assert done.returncode == 1
    assert 'no [[local]] table with role = "expensive"' in done.stdout


def test_check_measures_what_a_thin_buffer_costs(case: Path) -> None:
    _by_force(case)
    edit(
        case / "mix.toml",
        "blend_width = 3.0",
        "blend_width = 3.0\nbuffer_width = 2.0\nallow_thin_buffer = true",
    )
    findings = {f["what"]: f for f in json.loads(mixserver_here("check", case, "--json").stdout)}
    assert findings["buffer"]["figure"] > 1e-6


def test_region_writes_the_shells_into_the_case(case: Path) -> None:
    done = mixserver_here("region", case)
    assert done.returncode == 0, done.stderr
    atoms = ase.io.read(case / "regions.xyz")
    assert set(np.unique(atoms.arrays["shell"])) <= {-1, 0, 1, 2, 3}
    assert atoms.arrays["lambda"][132] == 1.0
    assert atoms.arrays["seed"].sum() == 1
    counts = [int((atoms.arrays["shell"] == shell).sum()) for shell in (3, 2, 1)]
    printed = [line.split()[:2] for line in done.stdout.splitlines()]
    for name, count in zip(("core", "blend", "buffer"), counts, strict=True):
        assert [name, str(count)] in printed
    assert (case / "regions.png").stat().st_size > 20_000


def test_region_scans_radii(case: Path, tmp_path: Path) -> None:
    out = tmp_path / "scan.xyz"
    words = ("--scan", "core=3:4", "blend=2,3", "-o", out)
    done = mixserver("region", case, *words)
    assert done.returncode == 0, done.stderr
    assert "radii  4/4" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows if row[:1] in (["3"], ["4"])] == [
        [core, blend] for blend in "23" for core in "34"
    ]
    assert (tmp_path / "scan_scan.png").stat().st_size > 20_000
    found = json.loads(mixserver_here("region", case, *words, "--json").stdout)
    assert len(found["scan"]["points"]) == 4
    assert found["scan"]["expensive_ms"] > 0.0
    assert [3.0, 2.0] in [[p["core_radius"], p["blend_width"]] for p in found["scan"]["points"]]
    assert found["best"]
    assert Path(found["picture"]) == tmp_path / "scan_scan.png"


def test_plot_draws_a_run(whole: Whole, tmp_path: Path) -> None:
    case = _copy(whole[0], tmp_path)
    done = mixserver("plot", case / "runs/latest")
    assert done.returncode == 0, done.stderr
    assert (case / "runs/latest/mixserver.png").stat().st_size > 20_000
