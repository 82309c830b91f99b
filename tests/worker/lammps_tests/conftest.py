"""LAMMPS engines of commands that a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mixserver_worker.engines.lammps.engine import LammpsEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., LammpsEngine]]:
    """Makes engines of commands, whose file lies in a folder; closes them after the test."""
    made: list[LammpsEngine] = []

    def make(text: str, *, folder: Path = tmp_path, **settings: object) -> LammpsEngine:
        file = folder / f"potential{len(made)}.in"
        file.write_text(text)
        made.append(LammpsEngine(file, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
