"""What processes hold, from /proc: memory, file descriptors, threads."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Use:
    """What a process holds now."""

    memory_kb: int
    """Resident."""
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Use:
        status = Path(f"/proc/{pid}/status").read_text()
        found = {key: int(value) for key, value in re.findall(r"(\w+):\s+(\d+)", status)}
        return cls(found["VmRSS"], len(os.listdir(f"/proc/{pid}/fd")), found["Threads"])

    def __str__(self) -> str:
        return f"{self.memory_kb / 1024:.1f} MB {self.files} fd {self.threads} th"


def children(pid: int) -> list[int]:
    """A process's children and theirs."""
    try:
        found = (Path(f"/proc/{pid}/task/{pid}/children")).read_text().split()
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            if int(thread) != pid:
                found += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, found) for one in (child, *children(child))]


def command(pid: int) -> str:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
