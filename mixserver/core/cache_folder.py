"""The folder in which the server's and the workers' programs keep what takes long to make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "MIXSERVER_CACHE"
"""Names the folder where the command line does not."""


def cache_folder() -> Path:
    """$MIXSERVER_CACHE, or mixserver in $XDG_CACHE_HOME or ~/.cache."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "mixserver"
