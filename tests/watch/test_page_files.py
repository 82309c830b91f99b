"""The page's files: the viewer is the published one, nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import re

import pytest

from mixserver.watch.app import PAGE


def test_the_viewer_is_the_published_one_with_its_licence() -> None:
    notice = (PAGE / "NOTICE").read_text(encoding="utf-8")
    (stated,) = re.findall(r"sha256 ([0-9a-f]{64})", notice)
    assert hashlib.sha256((PAGE / "3Dmol-min.js").read_bytes()).hexdigest() == stated
    assert "University of Pittsburgh" in notice


@pytest.mark.parametrize("name", ["index.html", "watch.css", "watch.js", "atoms.js", "charts.js"])
def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_code(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://|[\"'(]//\w", text)
    # texts of workers and files never become HTML or code
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.search(r"<script>|<style>|\son\w+=|style=", text)
