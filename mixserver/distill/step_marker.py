"""The marker file of a step: the inputs that it was made with, and whether it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mixserver.core.atomic_write import write_atomically
from mixserver.core.errors import ConfigError

MARKER: Final = "step.json"
"""In the folder of each step."""


class StepMarker(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a step, and whether it is done."""

    settings: dict[str, Any]
    """As JSON stores them."""
    files: dict[str, str]
    """sha256 of each file that it reads from outside the run folder."""
    needs: dict[str, str]
    """`outcome` of each step whose files it reads."""
    outcome: str = ""
    """A new random string each time the step is finished; "" before."""
    stale: bool = False
    """True while its files are being deleted."""

    def changes(self, new: StepMarker) -> list[str]:
        """The differences from new inputs, as phrases for the log."""
        words = ["it was being deleted"] if self.stale else []
        words += _differences("", self.settings, new.settings)
        words += [f"the file {name} has changed" for name in _changed(self.files, new.files)]
        return words + [f"step {name} was repeated" for name in _changed(self.needs, new.needs)]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ."""
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def _differences(prefix: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The changed values, down to the innermost tables."""
    for key in _changed(before, now):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(f"{prefix}{key}.", old, new)
        else:
            yield f"{prefix}{key} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_marker(file: Path) -> StepMarker | None:
    """The marker in a file; None if the file does not exist.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=StepMarker)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{file} is not the marker of a step ({error}); delete its folder to repeat the step"
        ) from error


def write_marker(file: Path, marker: StepMarker) -> None:
    """Write the marker atomically."""
    write_atomically(file, msgspec.json.format(msgspec.json.encode(marker)))
