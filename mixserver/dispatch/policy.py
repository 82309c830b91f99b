"""The rules of dispatch as one value. Knows nothing of how they are carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mixserver.errors import ConfigError
from mixserver.wire.worker import Role


@dataclass(frozen=True, slots=True)
class Policy:
    """Which workers are wanted, and when one is given up."""

    roles: Mapping[Role, str]
    """The roles that are asked, each with the fingerprint its workers must have; "" takes the
    first that joins, and from then on only the same."""
    patience_s: float = 5.0
    """Silence after which a worker counts as dead."""
    heartbeat_s: float = 1.0
    """How often a worker is to be heard."""
    failures: int = 3
    """Workers one job may break before it is blamed itself."""
    job_timeout_s: float = 1800.0
    """A job that takes longer is given to another worker too; a worker that takes twice as long
    is given up."""
    when_none: Literal["hold", "stop"] = "hold"
    """No worker left for a role, or none that is not overdue: wait for one, or give the role's
    jobs up after `patience_s`."""
    first_worker_s: float = 120.0
    """Under "stop": how long to wait for the very first worker of a role; models take a while to
    load."""

    @property
    def hung_s(self) -> float:
        """How long a worker may be at one job before it is given up."""
        return 2.0 * self.job_timeout_s

    @property
    def tick_s(self) -> float:
        """How often the board is to look round."""
        return min(self.heartbeat_s, self.patience_s / 5, 1.0)

    def __post_init__(self) -> None:
        if not self.roles:
            raise ConfigError("no model is configured: name one under [models] in mix.toml")
        for name in ("patience_s", "heartbeat_s", "job_timeout_s", "first_worker_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"workers.{name} must be positive, got {getattr(self, name)}")
        if self.patience_s < 2 * self.heartbeat_s:
            raise ConfigError(
                f"workers.patience_s = {self.patience_s} s must be at least twice "
                f"workers.heartbeat_s = {self.heartbeat_s} s, or live workers would be given up"
            )
        if self.failures < 1:
            raise ConfigError(f"workers.failures must be at least 1, got {self.failures}")
