"""All sites with the same weight, on code that symmetrix-xl compiles for the model.

Force mixing evaluates whole clusters, and a run without regions the whole system. symmetrix-xl's
own evaluation does this without the stages of `stages`, edge by edge. It needs a C++20 compiler
(CPU) or NVRTC (CUDA) at the first start; what it compiles is kept in its own cache.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mixserver.core.arrays import Scalars, Vectors
from mixserver_worker.engines.symmetrix.active_edges import ActiveEdges

_log = logging.getLogger("mixserver.mace")


class WholeModel:
    """The compiled evaluator of a converted model.

    Args:
        file: the converted model.
        head: name of the head; "" for a model of one head.
        dtype: "float64" or "float32".

    Raises:
        Exception: of symmetrix-xl; it cannot compile here.
    """

    def __init__(self, file: Path, head: str, dtype: str) -> None:
        from symmetrix import Symmetrix

        os.environ.setdefault("SYMMETRIX_JIT_CACHE", str(file.parent / "compiled"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._calculator: Any = Symmetrix(
                str(file), dtype=dtype, head=head or None, streamed_edges="direct"
            )
        self._model = self._calculator.evaluator
        self._prepared: tuple[int, ...] = ()

    def evaluate(self, edges: ActiveEdges) -> tuple[Scalars, Vectors]:
        """Site energies and the gradient of their sum, as `StagedModel.evaluate`.

        Args:
            edges: of a graph whose atoms are all sites.
        """
        present = tuple(np.unique(edges.types).tolist())
        if present != self._prepared:
            self._model.prepare_active_types(np.array(present, np.int32))
            self._prepared = present
        self._model.compute_node_energies_forces(
            edges.sites,
            edges.types,
            edges.count,
            edges.sender,
            edges.sender_types,
            edges.vector.ravel(),
            edges.length,
        )
        energies, slope = self._model.node_energies, self._model.node_forces
        return (
            np.fromiter(energies, np.float64, len(energies))[: edges.sites],
            np.fromiter(slope, np.float64, len(slope))[: edges.vector.size].reshape(-1, 3),
        )


def whole_model(file: Path, head: str, dtype: str) -> WholeModel | None:
    """The compiled evaluator, or None where it cannot be compiled; the log has the reason."""
    try:
        return WholeModel(file, head, dtype)
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        _log.warning(
            "sites of equal weight are evaluated like others: symmetrix-xl cannot compile its code "
            "for this model here, %s. Leave out --compile to save this time",
            text or type(error).__name__,
        )
        return None
