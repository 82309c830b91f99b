"""Warnings of real runs: on the terminal and in the records; and runs that blow up."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import edit, minimal_case, mixserver


def test_a_hot_run_is_warned_of_once_and_ends_with_its_warnings(tmp_path: Path) -> None:
    case = minimal_case(tmp_path)
    edit(case / "input.xml", ("'kelvin'> 40 </velocities>", "'kelvin'> 400 </velocities>"))
    edit(case / "input.xml", ("'femtosecond'> 200 </tau>", "'femtosecond'> 1e7 </tau>"))
    with (case / "mix.toml").open("a") as settings:
        settings.write("[warnings]\nsettle_ps = 0.1\nregion = 0.1\n")
    done = mixserver("run", case)
    assert done.returncode == 0, done.stderr
    lines = (case / "runs/0001/warnings.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    kinds = sorted(warning["kind"] for warning in found)
    assert kinds in (["region", "temperature"], ["core_temperature", "region", "temperature"])
    for warning in found:
        assert done.stderr.count(warning["message"]) == 1
    assert f"done with {len(found)} warnings" in done.stdout
    last = json.loads((case / "runs/0001/mixserver.jsonl").read_text().splitlines()[-1])
    assert last["kelvin_bulk"] is None or last["kelvin_bulk"] > 80.0


def test_a_run_that_blows_up_is_not_done(tmp_path: Path) -> None:
    case = minimal_case(tmp_path)
    edit(case / "mix.toml", "[mixing]", "[limits]\ntemperature = 60.0\n\n[mixing]")
    edit(case / "input.xml", ("'kelvin'> 40 </velocities>", "'kelvin'> 400 </velocities>"))
    edit(case / "input.xml", ("<total_steps> 100", "<total_steps> 100000"))
    failed = mixserver("run", case)
    assert failed.returncode == 1
    assert "the trajectory is not physical any more: the temperature is" in failed.stderr
    assert "done" not in failed.stdout + failed.stderr
    assert (case / "runs/0001/RESTART").is_file()
