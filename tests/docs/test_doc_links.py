"""Links lead to files that exist and headings that they have; pictures and pages are reachable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import PAGES, ROOT, anchors, prose, relative

LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading in {relative(target)}"


def test_every_page_of_docs_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.split("#")[0]).resolve() for link in LINK.findall(prose(index))}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if "decisions" not in page.parts}
    assert pages - linked <= {index}
