"""`mixserver watch` beside a real run, asked as the page asks it; the page in a real browser."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ase.io import read
from browser import CHROMIUM, Browser
from command_line import BIN, edit, minimal_case, mixserver
from limits import HANG_S
from run_watching import remembering, until

from mixserver.watch.stored_frames import StoredFrames


class Watch:
    """`mixserver watch` as a process."""

    def __init__(self, target: Path | str) -> None:
        self.process = subprocess.Popen(
            [BIN / "mixserver", "watch", target, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.place, _, self.token = self.address.partition("/?token=")

    def get(self, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(self.place + path, headers=headers, timeout=HANG_S)
        assert answer.status_code == 200, answer.text
        return answer.content

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/api/state"))
        return found

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(HANG_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def watching(target: Path | str) -> Iterator[Watch]:
    watch = Watch(target)
    try:
        yield watch
    finally:
        if watch.process.poll() is None:
            watch.process.kill()
            watch.process.wait(HANG_S)


@contextlib.contextmanager
def running(folder: Path, steps: int) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The minimal case while it runs, with a frame every fifth step."""
    case = minimal_case(folder)
    edit(case / "input.xml", "<total_steps> 100", f"<total_steps> {steps}")
    edit(case / "input.xml", "stride='50' cell_units", "stride='5' cell_units")
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen([BIN / "mixserver", "run", case], stdout=log, stderr=log)
    try:
        yield case, run
    finally:
        if run.poll() is None:
            run.kill()
        run.wait(HANG_S)


def test_a_run_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    with running(tmp_path, 1_000_000) as (case, run), watching(case) as watch:
        assert watch.place.startswith("http://127.0.0.1:")
        until(lambda: watch.state()["frames"] >= 2, run)
        state = watch.state()
        assert state["status"]["stage"] == "running"
        assert {worker["role"] for worker in state["status"]["workers"]} == {"cheap", "expensive"}
        assert state["latest"]["temperature"] > 0.0
        until(lambda: len(json.loads(watch.get("/api/curves"))["evaluations"]["core"]) > 5, run)
        assert b'"lambda":true' in watch.get("/api/frames/1")
        assert httpx.get(f"{watch.place}/api/state", timeout=HANG_S).status_code == 403
        run.send_signal(signal.SIGINT)
        until(lambda: run.poll() is not None)
        until(lambda: watch.state()["status"] is None)
        assert watch.state()["ended"] == "stopped"
        assert watch.end() == 0


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_lambda_of_a_trajectory_is_what_the_run_had(tmp_path: Path, kind: str) -> None:
    """Of regions that remember: the journal must give what regions.xyz holds."""
    case = minimal_case(tmp_path)
    remembering(case, kind)
    edit(case / "input.xml", "<total_steps> 100", "<total_steps> 20")
    edit(case / "input.xml", "stride='50' cell_units", "stride='1' cell_units")
    with (case / "mix.toml").open("a") as settings:
        settings.write("[record]\nregions_every = 1\n")
    done = mixserver("run", case)
    assert done.returncode == 0, done.stderr
    run = case / "runs" / "0001"
    recorded = read(run / "regions.xyz", index=":", format="extxyz")
    (run / "regions.xyz").unlink()
    frames = StoredFrames(run)
    frames.update()
    assert len(frames) == 22  # one of each step, and the last one
    varied = set()
    for step in range(21):
        shown = frames.read(step)
        assert shown.label == f"step {step}"
        assert shown.region is not None, shown.why_not
        np.testing.assert_allclose(
            shown.region.lambda_, recorded[step].arrays["lambda"], atol=1e-6, err_msg=shown.label
        )
        assert shown.region.seeds.tolist() == np.flatnonzero(recorded[step].arrays["seed"]).tolist()
        varied.add(round(float(shown.region.lambda_.sum()), 3))
    assert len(varied) > 2


def test_text_takes_the_place_of_the_page_where_it_is_wanted(tmp_path: Path) -> None:
    case = minimal_case(tmp_path)
    done = mixserver("watch", "--text", case)
    assert done.returncode == 1
    assert "has no runs" in done.stderr


@pytest.mark.physics
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium (Debian: apt-get install chromium)")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    with (
        running(tmp_path, 1_000_000) as (case, run),
        watching(case) as watch,
        contextlib.closing(Browser(tmp_path / "profile")) as browser,
    ):
        browser.open(watch.address)
        browser.until("document.querySelector('#viewer[data-drawn]') !== null")
        assert browser.value("location.href") == f"{watch.place}/"  # without the token
        assert browser.value("document.getElementById('stage').textContent") == "running"
        browser.until("document.querySelectorAll('#workers tbody tr').length === 2")
        browser.until("document.querySelectorAll('#charts figure:not([hidden])').length > 3")
        browser.until("document.getElementById('slider').max > 3")
        # else other atoms hide the seeds
        assert browser.value("document.getElementById('open').checked") is True
        # scrubbing: the first frame, which stays although new ones come
        browser.value(
            "(() => { const s = document.getElementById('slider'); s.value = 0;"
            "s.dispatchEvent(new Event('input')); })()"
        )
        browser.until("document.getElementById('viewer').dataset.drawn === 'step 0'")
        assert browser.value("document.getElementById('follow').checked") is False
        run.send_signal(signal.SIGINT)
        until(lambda: run.poll() is not None)
        browser.until("document.getElementById('stage').textContent === 'stopped'")
        assert browser.value("document.getElementById('viewer').dataset.drawn") == "step 0"
        assert browser.complaints == []
        # the picture has the colours of lambda: red for the core
        browser.picture(tmp_path / "page.png")
        from matplotlib.image import imread

        colours = imread(tmp_path / "page.png")[150:600, 50:600, :3]
        red = (colours[..., 0] > 0.6) & (colours[..., 1] < 0.35) & (colours[..., 2] < 0.35)
        assert red.sum() > 100
        assert watch.end() == 0
        browser.until("document.getElementById('stage').textContent === 'no answer'")
