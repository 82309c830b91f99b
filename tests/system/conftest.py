"""Worker processes that are cleared away after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import structlog
from worker_scene import Scene


@pytest.fixture
async def stage() -> AsyncIterator[Callable[..., Scene]]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    scenes: list[Scene] = []

    def make(**changes: object) -> Scene:
        scenes.append(Scene(**changes))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.clear()
