"""LAMMPS engines of commands that a test writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mixserver_worker.engines.lammps.engine import LammpsEngine
from mixserver_worker.engines.lammps.weighting.site_weights import WeightingScheme


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


@pytest.fixture
def distilled(tmp_path: Path) -> Path:
    """A copy of the folder of a distilled potential, for `engine` to write into."""
    source = Path("inputs/silicon_distill/potential").resolve()
    return Path(shutil.copytree(source, tmp_path / "distilled"))


@pytest.fixture(scope="module")
def _kept() -> Iterator[dict[tuple[str, ...], LammpsEngine]]:
    made: dict[tuple[str, ...], LammpsEngine] = {}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def kept(
    _kept: dict[tuple[str, ...], LammpsEngine], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., LammpsEngine]]:
    """Engines that the tests of a file share, because making one takes longer than most tests.

    Each test finds them as they were made, without LAMMPS instances.
    """
    used: list[tuple[LammpsEngine, WeightingScheme | None]] = []

    def make(text: str, **settings: object) -> LammpsEngine:
        key = (text, *(f"{name}={value!r}" for name, value in sorted(settings.items())))
        if key not in _kept:
            file = tmp_path_factory.mktemp("kept") / "potential.in"
            file.write_text(text)
            _kept[key] = LammpsEngine(file, **settings)
        used.append((_kept[key], _kept[key].pool.scheme))
        return _kept[key]

    yield make
    for one, scheme in reversed(used):
        one.pool.close()
        one.pool.scheme = scheme
