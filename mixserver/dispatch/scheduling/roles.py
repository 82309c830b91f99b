"""Per role: the model it is pinned to, and whether it has a worker that could take a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.actions import RoleAvailable, RoleEmpty
from mixserver.dispatch.scheduling.scheduler_state import Workers, has_healthy
from mixserver.wire.worker import Role


class Roles:
    """The scheduler's state per role.

    Args:
        policy: names the roles.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.pins: dict[Role, str] = {r: pin for r, pin in policy.roles.items() if pin}
        """The fingerprint that a role's workers must have, once one is known."""
        self._served: set[Role] = set()
        """Roles that have had a worker."""
        self._last_loss: dict[Role, str] = {}
        self._empty_since: dict[Role, float] = {}

    def pin(self, role: Role, fingerprint: str) -> None:
        """A worker was accepted: from now on all workers of its role must have its model."""
        self.pins[role] = fingerprint
        self._served.add(role)

    def record_loss(self, role: Role, worker: str, reason: str) -> None:
        """Remember a role's latest loss, for messages."""
        self._last_loss[role] = f"{worker}: {reason}"

    def is_served(self, role: Role) -> bool:
        """Whether a role has ever had a worker."""
        return role in self._served

    def empty_for(self, role: Role, now: float) -> float | None:
        """Seconds for which jobs have waited for a healthy worker of a role; None if none do."""
        since = self._empty_since.get(role)
        return None if since is None else now - since

    def last_loss(self, role: Role) -> str:
        """The role's latest loss, for displays; "" if there was none."""
        return self._last_loss.get(role, "")

    def no_worker_message(self, role: Role, workers: Workers) -> str:
        """Why a role has no worker that could take a job."""
        last = self._last_loss.get(role)
        present = any(state.role == role for state in workers.values())
        return f"no {role} worker {'answers' if present else 'is left'}" + (
            f" (the last was {last})" if last else ""
        )

    def shift(self, seconds: float) -> None:
        """Move all times forward by a pause of the server."""
        self._empty_since = {role: at + seconds for role, at in self._empty_since.items()}

    def changes(
        self, queues: Mapping[Role, Sequence[int]], workers: Workers, now: float
    ) -> list[RoleEmpty | RoleAvailable]:
        """Roles whose queued jobs have no healthy worker since now, or have one again."""
        changes: list[RoleEmpty | RoleAvailable] = []
        for role, queue in queues.items():
            if not queue and role not in self._empty_since:
                continue
            healthy = has_healthy(role, workers)
            if healthy or not queue:
                if self._empty_since.pop(role, None) is not None and healthy:
                    changes.append(RoleAvailable(role))
            elif role not in self._empty_since:
                self._empty_since[role] = now
                changes.append(RoleEmpty(role, self.no_worker_message(role, workers)))
        return changes

    def expired(self, now: float) -> list[Role]:
        """Roles that have been empty for too long, under "stop"."""
        policy = self._policy
        if not self._empty_since or policy.when_none != "stop":
            return []
        return [
            role
            for role, since in self._empty_since.items()
            if now - since >= (policy.patience_s if role in self._served else policy.first_worker_s)
        ]
