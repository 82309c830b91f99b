"""How long tests wait: a limit ends what hangs, and says nothing of speed.

A machine that is shared may be ten times slower than an idle one, so a limit is far beyond that.
"""

from __future__ import annotations

from typing import Final

HANG_S: Final = 300.0
"""Seconds after which a wait for one event has failed."""
