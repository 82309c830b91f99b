"""The rules of dispatch as one validated value: models, deadlines, what to do without workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mixserver.core.errors import ConfigError
from mixserver.wire.worker import Role


@dataclass(frozen=True, slots=True)
class Policy:
    """Which workers may join, and when one is no longer counted on."""

    roles: Mapping[Role, str]
    """The roles in use, each with the fingerprint that its workers must have; "" accepts the
    fingerprint of the first that joins, and from then on only that one."""
    patience_s: float = 5.0
    """Silence after which a worker counts as dead."""
    heartbeat_s: float = 1.0
    """How often a worker sends a sign of life."""
    failures: int = 3
    """Workers that one job may break before the job itself is blamed."""
    job_timeout_s: float = 1800.0
    """A job that takes longer is given to another worker, too; a worker that takes twice as long
    is dropped."""
    second_copy: float = 4.0
    """An idle worker also gets a job that takes longer than so many times the median of its size;
    0: never."""
    audit: int = 0
    """Every so manyth evaluation is repeated by a second worker of each role; 0: none."""
    batch_sites: int = 0
    """Small jobs of the expensive model that come together are evaluated together, up to so many
    sites; 0: each alone."""
    when_none: Literal["hold", "stop"] = "hold"
    """If a role has no worker left that is on time: "hold" waits for one, "stop" fails the role's
    jobs after `patience_s`."""
    first_worker_s: float = 120.0
    """Under "stop": how long to wait for the very first worker of a role; models take a while to
    load."""

    @property
    def hung_s(self) -> float:
        """How long a worker may take for one job before it is dropped."""
        return 2.0 * self.job_timeout_s

    @property
    def tick_s(self) -> float:
        """How often deadlines are checked."""
        return min(self.heartbeat_s, self.patience_s / 5, 0.5)

    def __post_init__(self) -> None:
        if not self.roles:
            raise ConfigError("no model is configured: name one under [models] in mix.toml")
        for name in ("patience_s", "heartbeat_s", "job_timeout_s", "first_worker_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"workers.{name} must be positive, got {getattr(self, name)}")
        if self.patience_s < 2 * self.heartbeat_s:
            raise ConfigError(
                f"workers.patience_s = {self.patience_s} s must be at least twice "
                f"workers.heartbeat_s = {self.heartbeat_s} s, or live workers would count as dead"
            )
        if self.second_copy and not 1.5 <= self.second_copy < math.inf:
            raise ConfigError(
                f"workers.second_copy must be at least 1.5 (times the median), or 0 for no second "
                f"copies, got {self.second_copy}"
            )
        if self.audit < 0:
            raise ConfigError(f"workers.audit must be 0 (none) or more, got {self.audit}")
        if self.failures < 1:
            raise ConfigError(f"workers.failures must be at least 1, got {self.failures}")
