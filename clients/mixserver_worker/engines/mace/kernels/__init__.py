"""Faster replacements for modules of mace 0.3, each compared with its module when it is made.

`contraction` replaces the symmetric contraction, `convolution` the tensor product of messages and
`elements` the skip connection. `replacement` falls back to mace's own module where a kernel does
not support it, or where another version of mace-torch or e3nn has other internals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import torch

_log = logging.getLogger("mixserver.mace")
_Kernel = TypeVar("_Kernel")

_AGREEMENT: Final = 1e-10
"""Relative, between a kernel and its module in float64."""


class UnsupportedModule(Exception):
    """A module is not what the kernel was written for, or the two do not agree."""


def check_agreement(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare the results of a kernel and of its module.

    Raises:
        UnsupportedModule: they differ.
    """
    if got.shape != expected.shape:
        raise UnsupportedModule(f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}")
    error = float((got - expected).abs().max())
    if not error <= _AGREEMENT * float(expected.abs().max()):
        raise UnsupportedModule(f"results differ by {error}")


def replacement(make: Callable[[], _Kernel], name: str) -> _Kernel | None:
    """Make a kernel; None if mace's own module must be used, for a reason that is logged."""
    try:
        return make()
    except UnsupportedModule as reason:
        _log.info("mace's own %s is used: %s", name, reason)
    except Exception as error:  # an attribute that another version renamed, another shape, ...
        _log.warning(
            "mace's own %s is used, which is slower: its internals are not those of mace-torch "
            "0.3.16 (%s: %s)",
            name,
            type(error).__name__,
            error,
        )
    return None
