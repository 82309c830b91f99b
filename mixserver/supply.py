"""Whether every model of a case has workers that can come, so that no run waits for ever."""

from __future__ import annotations

from mixserver.config import Case, Workers


def unsupplied(case: Case) -> list[str]:
    """Models that no worker can evaluate in `mixserver run`: it starts [[local]] workers, and its
    door is private unless mix.toml names one.

    Returns:
        One message per model, with its cure; empty if a run may begin.
    """  # noqa: D205 - one sentence
    config = case.config
    workers = config.workers
    if workers.door != Workers().door:
        return []
    served = {local.role for local in config.local}
    if workers.clients:
        served.add(workers.clients_role)
    return [
        f"no worker can evaluate the {role} model: {case.file.name} has no [[local]] table with "
        f'role = "{role}", and leaves workers.door at its default, which is private to a run. Add '
        f'a [[local]] worker, or name a door for workers from elsewhere, workers.door = "tcp://'
        f'0.0.0.0:5555", and start mixserver-worker ENGINE --server ADDRESS --role {role}'
        for role, model in (("cheap", config.models.cheap), ("expensive", config.models.expensive))
        if model is not None and role not in served
    ]
