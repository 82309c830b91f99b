"""A real i-PI whose <timeout> is shorter than an evaluation: it gets there all the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from limits import HANG_S

INPUTS = Path(__file__).parents[2] / "inputs"
BIN = Path(sys.executable).parent
STEPS = 3


def _run(folder: Path, timeout_s: float, seconds: float) -> tuple[list[str], list[dict], dict, str]:
    """Energies of a run with hysteresis, its records, its region's memory, and what was said."""
    shutil.copytree(INPUTS / "minimal", folder, ignore=shutil.ignore_patterns("runs"))
    xml = (folder / "input.xml").read_text()
    xml = xml.replace("<total_steps> 100", f"<total_steps> {STEPS}")
    xml = xml.replace("core,blend,gap_rms,pull_max", "core,blend")
    patience = f"<timeout> {timeout_s} </timeout>" if timeout_s else ""
    (folder / "input.xml").write_text(xml.replace("</ffsocket>", f"{patience}</ffsocket>"))
    mix = (folder / "mix.toml").read_text().replace("follow = true", "")
    mix = mix.replace('kind = "energy"  ', 'kind = "force"  ')
    mix = mix.replace(
        "[mixing]", "hysteresis = { time_in = 5.0, time_out = 9.0 }\n\n[mixing]"
    ).replace('"0.0120"', f'"0.0120", "--seconds", "{seconds}"')
    (folder / "mix.toml").write_text(mix)
    done = subprocess.run(
        [BIN / "mixserver", "run", folder, "--quiet"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = folder / "runs/0001"
    lines = (run / "simulation.out").read_text().splitlines()
    records = [json.loads(line) for line in (run / "mixserver.jsonl").read_text().splitlines()]
    return lines, records, json.loads((run / "region.json").read_text()), done.stderr


def test_a_timeout_shorter_than_an_evaluation_changes_nothing_and_is_said(tmp_path: Path) -> None:
    calm, records, memory, _ = _run(tmp_path / "calm", 0.0, 0.0)
    hasty, again, remembered, said = _run(tmp_path / "hasty", 0.4, 0.7)
    assert hasty == calm
    assert len(again) == len(records) == STEPS + 1
    assert remembered == memory
    assert said.count("<timeout>") == 2  # one warning, with the cause and the cure
