"""Measures the memory of a CUDA device that torch takes: a `Meter`."""

from __future__ import annotations

import torch


class CudaMemory:
    """Memory of one device.

    Args:
        device: of torch, of type "cuda".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._idle: int | None = None
        """Bytes that were in use before the first job: the model."""

    def start(self) -> None:
        """Forget the peak so far."""
        if self._idle is None:
            self._idle = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)

    def taken(self) -> int:
        """Bytes by which the peak was above what was in use before the first job."""
        return max(0, torch.cuda.max_memory_allocated(self._device) - (self._idle or 0))

    def available(self) -> int:
        """Bytes that jobs can take: free ones of the device, and what torch keeps for itself."""
        free, _ = torch.cuda.mem_get_info(self._device)
        kept = torch.cuda.memory_reserved(self._device) - (self._idle or 0)
        return int(free) + max(0, kept)
