"""Measures the memory that symmetrix-xl takes of a GPU: a `Meter`.

Its arrays are not torch's. They grow to the largest job and stay, so what is free tells what it
took.
"""

from __future__ import annotations

import torch


class DeviceMemory:
    """Memory of one CUDA device.

    Args:
        device: of torch, of type "cuda".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free: int | None = None
        """Bytes that were free before the first job."""

    def start(self) -> None:
        """Remember what is free before the first job."""
        if self._free is None:
            self._free = self.available()

    def taken(self) -> int:
        """Bytes that were free before the first job and are not now."""
        return max(0, (self._free or 0) - self.available())

    def available(self) -> int:
        """Free bytes of the device."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return int(free)
