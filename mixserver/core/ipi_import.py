"""Import of i-PI's package without two parts that it imports and that a run does not use.

``import ipi`` also imports its interface for notebooks, with all file formats of ASE, and SciPy's
interpolation, which only string paths and anharmonic phonons need: a third of the time that i-PI
takes to start. Here both wait until they are used.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_FUNCTIONS: Final = {
    "ipi.scripting": ("read_output", "read_trajectory"),
    "scipy.interpolate": ("interp1d", "interp2d", "make_interp_spline", "splev"),
}
"""What i-PI takes from each of these modules when it is imported."""
_LOCK: Final = threading.Lock()


def import_ipi() -> None:
    """Import i-PI, unless it is imported already; modules of it can be imported as usual then."""
    with _LOCK:
        if "ipi" in sys.modules:
            return
        later = [_Later(name) for name in _FUNCTIONS if name not in sys.modules]
        sys.modules.update({module.__name__: module for module in later})
        try:
            import_module("ipi")
        finally:
            for module in later:
                module.withdraw()


class _Later(ModuleType):
    """Stands for a module while i-PI is imported; its functions import it when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name in _FUNCTIONS[self.__name__]:
            return _imported_at_its_call(self.__name__, name)
        if name.startswith("__"):  # the import system's questions
            raise AttributeError(name)
        self.withdraw()
        return getattr(import_module(self.__name__), name)

    def withdraw(self) -> None:
        """Let the next import of this name find the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


def _imported_at_its_call(module: str, name: str) -> Callable[..., Any]:
    def function(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    function.__name__ = name
    return function
