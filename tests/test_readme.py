"""What the README shows is right: its mix.toml, its commands, its links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from clients.cli import main as worker
from mixserver.cli import main as server
from mixserver.config.load import parse

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "inputs").glob("*/README.md")),
]
TEXT = (ROOT / "README.md").read_text()


def test_its_mix_toml_is_read() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        parse(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"`mixserver (\w+)", TEXT))
    assert {"run", "check", "region", "plot", "serve", "bench"} <= named
    for name in named:
        assert CliRunner().invoke(server, [name, "--help"]).exit_code == 0, name
    for name in set(re.findall(r"`mixserver-worker (\w+)", TEXT)):
        assert CliRunner().invoke(worker, [name, "--help"]).exit_code == 0, name


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", TEXT)) - {"it"}:
        if target in {"run", "test", "lint", "physics"}:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
