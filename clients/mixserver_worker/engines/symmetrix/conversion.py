"""Converts a MACE model to the format of symmetrix-xl, with its own converter.

The converted model has all elements and heads, but no energies of isolated atoms. Radial functions
stay networks; splines are made of them for the elements in use when a job comes.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from typing import Any, Final

from mixserver.core.arrays import Scalars
from mixserver_worker.engines.mace.model import quiet
from mixserver_worker.engines.symmetrix.package import Unavailable

REVISION: Final = 1
"""Of what this module makes of a model: raise it with every change, so that no cache has it."""
SPLINE_POINTS: Final = 512
"""Of each radial function between 0 and the cutoff. Forces are 16 times closer to those of the
model's own functions than with the usual 256, and as fast."""


def convert(module: Any, head: str) -> bytes:
    """Convert a model.

    Args:
        module: a `mace.modules.MACE` or `ScaleShiftMACE`; unchanged.
        head: the head that is used if none is named when the result is loaded.

    Returns:
        JSON.

    Raises:
        Unavailable: symmetrix-xl does not know such models; the message says what is unknown. See
            `refuse_unknown` too.
    """
    import torch

    stream = io.BytesIO()
    before = torch.get_default_dtype()
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it logs each part of the model
    try:
        with quiet(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            converter = importlib.import_module("symmetrix.extract_mace_data")
            torch.save(module, stream)  # the converter changes what it gets
            stream.seek(0)
            heads = getattr(module, "heads", None) or ()
            data = converter.extract_mace_data(
                stream, head=head if len(heads) > 1 else None, num_spline_points=SPLINE_POINTS
            )
            _without_isolated_atoms(data)
    except Exception as error:
        raise Unavailable(f"symmetrix-xl does not know this model: {error}") from error
    finally:
        torch.set_default_dtype(before)
        logging.disable(disabled)
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()


def _without_isolated_atoms(data: dict[str, Any]) -> None:
    """Set the energies of isolated atoms to 0, which single precision would round."""
    heads = data.get("prediction_heads", {}).get("parameters", {})
    for parameters in (data, *heads.values()):
        parameters["atomic_energies"] = [0.0] * len(parameters["atomic_energies"])


def isolated_atoms(module: Any, head: int, species: tuple[int, ...]) -> Scalars:
    """Energies that were left out: of isolated atoms, and the shift.

    Args:
        module: a `mace.modules.ScaleShiftMACE`.
        head: index of the head.
        species: atomic numbers in the order of the converted model.

    Returns:
        (species,) eV.
    """
    known = [int(z) for z in module.atomic_numbers]
    energies = module.atomic_energies_fn.atomic_energies.detach().double()
    energies = energies.reshape(-1, len(known))[head].cpu().numpy()
    shift = float(module.scale_shift.shift.reshape(-1)[head])
    found: Scalars = energies[[known.index(z) for z in species]] + shift
    return found


def refuse_unknown(module: Any) -> None:
    """Refuse what the converter would misread or reports late. Call it before `convert`.

    Raises:
        Unavailable: a model of one or of more than two layers, of another l_max than 3, ...
    """
    layers = int(module.num_interactions)
    if layers != 2:
        raise Unavailable(f"symmetrix-xl knows models of two layers, this one has {layers}")
    l_max = int(getattr(module.spherical_harmonics, "_lmax", -1))
    if l_max != 3:
        raise Unavailable(f"symmetrix-xl knows models with l_max = 3, this one has {l_max}")
    if len(module.readouts) != 2:
        raise Unavailable(f"it knows models with two readouts, this one has {len(module.readouts)}")
    if not hasattr(module, "scale_shift"):
        raise Unavailable(
            "symmetrix-xl knows ScaleShiftMACE, this is a MACE without scale and shift"
        )
