"""Small random models that symmetrix-xl knows, of each of its kinds."""

from __future__ import annotations

from typing import Any

KNOWN = {"layers": 2, "correlation": 3, "max_ell": 3, "kind": "ScaleShiftMACE", "hidden": "4x0e"}
DENSITY = {"first": "RealAgnosticDensity", "then": "RealAgnosticDensityResidual"}
SYMMETRIX_MODELS: dict[str, dict[str, Any]] = {
    "plain": KNOWN,
    "first residual": {**KNOWN, "first": "RealAgnosticResidual"},
    "density": {**KNOWN, **DENSITY},
    "two heads": {
        **KNOWN,
        "heads": ["dft", "coupled cluster"],
        "pair_repulsion": True,
        "transform": "Agnesi",
    },
    "vectors": {
        **KNOWN,
        "hidden": "4x0e + 4x1o",
        "first": "RealAgnosticDensityResidual",
        "then": "RealAgnosticDensityResidual",
        "pair_repulsion": True,
    },
}
HEAD = "coupled cluster"
