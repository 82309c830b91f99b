"""What has changed between an earlier run and one that continues it, as far as it may change.

What may not change is refused in `same_potential`. All else is told: settings that take effect
now, and changes of i-PI's input, which have none because i-PI continues from its RESTART.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mixserver.config import Case, load_case
from mixserver.core.errors import ConfigError
from mixserver.server.runs import RESTART_INPUT, program_versions, read_run_info, run_chain
from mixserver.server.same_potential import flat_settings, setting_differences, shown

_NO_EFFECT: Final = frozenset({"simulation/total_steps", "simulation/prng/seed"})
"""Elements of the input that are told elsewhere, or mean nothing after the start."""
_MOST: Final = 12
"""Changes that are listed."""


def changes_since(earlier: Path, case: Case) -> list[str]:
    """What has changed since an earlier run, one line each; of what differs much, the first lines.

    Raises:
        ConfigError: a file of the earlier run cannot be read.
    """
    found = [*_settings(earlier, case), *_input(earlier, case), *_versions(earlier)]
    more = len(found) - _MOST
    return [*found[:_MOST], f"... and {more} more"] if more > 0 else found


def _settings(earlier: Path, case: Case) -> Iterator[str]:
    """Settings of mix.toml that may change, and did."""
    if not (earlier / "mix.toml").is_file():
        return
    then, now = load_case(earlier).config, case.config
    refused = {line.split(":")[0] for line in setting_differences(then, now)}
    old, new = (dict(flat_settings(msgspec.to_builtins(config))) for config in (then, now))
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key) and key not in refused and key != "record.folder":
            yield f"mix.toml: {key}: {shown(old.get(key))} -> {shown(new.get(key))}"


def _input(earlier: Path, case: Case) -> Iterator[str]:
    """Elements of i-PI's input that were changed since the first run, to no effect."""
    first = run_chain(earlier)[0]
    source, name = first / case.config.ipi.input, case.config.ipi.input
    now = case.folder / name
    if (first / RESTART_INPUT).exists() or source.is_symlink():
        return
    if not (source.is_file() and now.is_file()):
        return
    try:
        old, new = (dict(_elements(ET.parse(file).getroot())) for file in (source, now))  # noqa: S314
    except ET.ParseError:
        return
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key) and key not in _NO_EFFECT:
            yield (
                f"{name}: {key}: {shown(old.get(key))} -> {shown(new.get(key))} (without effect: "
                "i-PI continues with what its RESTART says)"
            )


def _elements(node: ET.Element, above: str = "") -> Iterator[tuple[str, str]]:
    """The text of each element, and its attributes, by its path; equal paths are counted."""
    path = f"{above}{node.tag}"
    for name, value in node.attrib.items():
        yield f"{path}[{name}]", value.strip()
    if text := " ".join((node.text or "").split()):
        yield path, text
    counts: dict[str, int] = {}
    for child in node:
        counts[child.tag] = counts.get(child.tag, 0) + 1
        again = f"({counts[child.tag]})" if counts[child.tag] > 1 else ""
        for key, value in _elements(child, f"{path}/"):
            yield key.replace(f"{path}/{child.tag}", f"{path}/{child.tag}{again}", 1), value


def _versions(earlier: Path) -> Iterator[str]:
    try:
        about = read_run_info(earlier)
    except ConfigError:
        return
    now = program_versions()
    for name, version in (about.versions if about is not None else {}).items():
        if version != now.get(name, version):
            yield f"{name}: version {version} -> {now[name]}"
