"""Admission of workers: protocol version, name, role, units and model, with reasons to reject."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mixserver.dispatch.policy import Policy
from mixserver.dispatch.scheduling.events import WorkerJoined
from mixserver.dispatch.scheduling.quarantine import process_label
from mixserver.wire.text import QUOTED, SENTENCE, clean, is_name
from mixserver.wire.worker import UNITS, VERSION, Hello, ModelCard, Role


def admission_error(joined: WorkerJoined, policy: Policy, pins: Mapping[Role, str]) -> str:
    """Why a worker must be rejected; "" if it may join.

    Args:
        joined: its role and model card.
        policy: the configured roles, and the model each must have.
        pins: fingerprints of the roles whose model is known by now.
    """
    worker, role, card = joined.worker, joined.role, joined.card
    if role not in policy.roles:
        wanted = ", ".join(policy.roles)
        return (
            f"worker {worker} joined for role {role!r}, but this server uses only: {wanted}. "
            f"Start it with --role {next(iter(policy.roles))}, or add [models.{role}] to mix.toml."
        )
    if card.units != UNITS:
        return (
            f"worker {worker} uses the units {card.units!r}, but this protocol has {UNITS!r}: make "
            "it convert what it sends and receives."
        )
    pin = pins.get(role, card.fingerprint)
    if card.fingerprint != pin:
        source = "mix.toml" if policy.roles[role] else "the first worker that joined"
        return (
            f"worker {worker} has model {card.name!r} with fingerprint {card.fingerprint}, but the "
            f"{role} model of this run is {pin} (from {source}). Start it with the same model, "
            f"or correct models.{role}.fingerprint and start a new run."
        )
    return ""


def name_taken_error(joined: WorkerJoined, owner: str, silence_s: float) -> str:
    """Why a worker cannot have the name of another one.

    Args:
        joined: the newcomer.
        owner: "HOST:PID" of the worker with this name.
        silence_s: seconds since that one last sent anything.
    """
    return (
        f"the name {joined.worker} belongs to another worker (process {process_label(owner)}, seen "
        f"{silence_s:.1f} s ago); give each worker its own with --name, or leave --name out"
    )


def other_key_error(worker: str, whose: str, key: str | None) -> str:
    """Why a worker cannot have a name that belongs to another key.

    Args:
        worker: the name.
        whose: what it is or does, after "the name ...".
        key: name of the newcomer's key.
    """
    return (
        f"the name {worker} {whose}, and this worker has the key {key}; give it another name with "
        "--name, or leave --name out"
    )


def invalid_hello(hello: Hello) -> str:
    """Why a Hello is invalid; "" if it is valid."""
    if hello.protocol != VERSION:
        return (
            f"worker {clean(hello.name)} uses version {hello.protocol} of the worker protocol, "
            f"this server version {VERSION}; install the same mixserver on both"
        )
    for what, text in (("name", hello.name), ("fingerprint", hello.model.fingerprint)):
        if not is_name(text):
            return (
                f"a worker's {what} has at most {QUOTED} characters, all printable, and no blanks "
                f"at its ends, but got {clean(text)!r}"
                + ("; give it another with --name" if what == "name" else "")
            )
    return ""


def printable_card(card: ModelCard) -> ModelCard:
    """The same card with its free texts made printable."""
    return msgspec.structs.replace(
        card,
        engine=clean(card.engine),
        name=clean(card.name),
        dtype=clean(card.dtype),
        units=clean(card.units),
        no_weights=clean(card.no_weights, SENTENCE),
    )
