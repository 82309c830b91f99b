"""Every command that the pages show is one that mixserver has, with the options that it has."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from docs_pages import PAGES, ROOT, blocks, prose, relative
from mixserver_worker.cli import main as worker

from mixserver.cli import main as server
from mixserver.config.load import parse

PROGRAMS = {"mixserver": server, "mixserver-worker": worker}
SHELL = {"console", "bash"}


def shown() -> Iterator[tuple[str, str]]:
    """Each page and each command line on it that calls one of our programs."""
    for page in PAGES:
        lines = re.findall(r"`(mixserver(?:-worker)? [^`]+)`", prose(page))
        lines += re.findall(r"^    (mixserver(?:-worker)? .+)$", prose(page), re.MULTILINE)
        for block in blocks(page):
            if block.language in SHELL:
                lines += block.text.replace("\\\n", " ").splitlines()
            elif block.language == "toml":
                for local in parse(block.text).local:
                    lines.append(shlex.join(["mixserver-worker", *local.command]))
        for line in lines:
            if re.search(r"(^|[ /])mixserver(-worker)? ", line) and "…" not in line:
                yield relative(page), line.strip()


LINES = sorted(set(shown()))


def words_after_program(line: str) -> tuple[str, list[str]]:
    """The program that a line calls, and the words it is given."""
    words = shlex.split(re.sub(r"^[\w-]*\$ +", "", line), comments=True)
    names = [word.rpartition("/")[2] for word in words]
    at = next((i for i, name in enumerate(names) if name in PROGRAMS), None)
    if at is None:
        return "", []
    ends = [i for i, word in enumerate(words) if i > at and word in {"&", "|", "&&", ";", ">"}]
    return names[at], words[at + 1 : min(ends, default=len(words))]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{p}: {line}" for p, line in LINES])
def test_commands_exist_with_their_options(page: str, line: str) -> None:
    program, words = words_after_program(line)
    if not program:
        return
    command: click.Command = PROGRAMS[program]
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group) and words:
        while words and words[0].startswith("--"):
            assert words[0] in {o for p in command.params for o in p.opts}, words[0]
            words = words[1:]
        if not words or words[0] in {"COMMAND", "..."}:
            return
        found = command.get_command(context, words[0])
        assert found is not None, f"{program} has no command {words[0]}"
        command, context, words = found, click.Context(found, parent=context), words[1:]
    given, _, _ = command.make_parser(context).parse_args(words)
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if isinstance(value, str) and isinstance(parameter.type, click.Choice):
            parameter.type.convert(value, parameter, context)


def test_many_commands_were_found() -> None:
    assert len(LINES) > 60
    assert {words_after_program(line)[0] for _, line in LINES} >= set(PROGRAMS)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = set(re.findall(r"`make (\w+)`", text)) | set(
        re.findall(r"^\$ make (\w+)$", text, re.MULTILINE)
    )
    assert named <= targets, named - targets


BASH = [(page, block.text) for page in PAGES for block in blocks(page) if block.language == "bash"]


@pytest.mark.parametrize(("page", "text"), BASH, ids=lambda part: str(part)[-40:].strip())
def test_scripts_are_valid_bash(page: Path, text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{relative(page)}: {done.stderr}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
