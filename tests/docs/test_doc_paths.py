"""Files and modules that the pages name exist; the index of decisions is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import PAGES, ROOT, anchors, prose, relative

BESIDE = re.compile(r"`([\w/]+/)?(\w+\.py)`")
PATH = re.compile(r"`((?:mixserver|clients|tests|docs)/[\w/.]*[\w/])`")
MODULE = re.compile(r"`(mixserver(?:_worker)?(?:\.\w+)+)(?:\(.*?\))?`")
DECISIONS = ROOT / "docs" / "decisions"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_paths_exist(page: Path) -> None:
    named = set(PATH.findall(prose(page)))
    if page.name == "CHANGELOG.md":
        return
    assert not {path for path in named if not (ROOT / path).exists()}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_are_named_without_their_folder_exist(page: Path) -> None:
    known = {path.name for part in ("mixserver", "clients", "docs", "inputs", "tests")
             for path in (ROOT / part).rglob("*.py")}  # fmt: skip
    known |= {"make_poscar.py"}  # the reader writes it
    assert not {name for _, name in BESIDE.findall(prose(page)) if name not in known}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_modules_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    for name in MODULE.findall(prose(page)):
        top = ROOT if name.startswith("mixserver.") else ROOT / "clients"
        places = [top.joinpath(*name.split(".")), top.joinpath(*name.split(".")[:-1])]
        found = any(p.is_dir() or p.with_suffix(".py").exists() for p in places)
        assert found, name


def test_every_package_is_on_the_map() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {p.parent.name for p in (ROOT / "mixserver").glob("*/__init__.py")}
    assert {name for name in packages if f"`mixserver/{name}/`" not in text} == set()


def test_the_index_of_decisions_is_complete() -> None:
    index = (DECISIONS / "README.md").read_text()
    for page in DECISIONS.glob("*.md"):
        for number, title, status in re.findall(
            r"^## (\d+)\. (.+)\n\n\*(.+)\*$", page.read_text(), re.MULTILINE
        ):
            (row,) = re.findall(rf"^\| {number} \| \[(.+?)\]\((.+?)\) \| (.+) \|$", index, re.M)
            name, _, anchor = row[1].partition("#")
            assert (row[0], row[2], name) == (title, status.rstrip("."), page.name)
            assert anchor in anchors(page)


PARTS = ("Context", "Decision", "Consequences", "Would change our mind")


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[!R]*.md")), ids=relative)
def test_every_decision_has_all_parts(page: Path) -> None:
    for decision in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
        lacking = [part for part in PARTS if f"* **{part}.** " not in decision]
        assert not lacking, f"{decision.splitlines()[0]}: {lacking}"
