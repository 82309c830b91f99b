"""Questions, cards and answers for the tests of dispatch."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import structlog

from mixserver.wire.worker import Evaluate, ModelCard


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(engine="toy", name="toy", fingerprint="aa")


@pytest.fixture
def question() -> Evaluate:
    return Evaluate(
        job=0,
        stream=0,
        positions=np.arange(12.0).reshape(4, 3),
        numbers=np.full(4, 14, np.int32),
        cell=10.0 * np.eye(3),
        pbc=(True, True, True),
    )
