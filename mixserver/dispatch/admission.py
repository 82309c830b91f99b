"""Whether a worker that joins fits the run, and in words why it does not."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mixserver.dispatch.events import Joined
from mixserver.dispatch.policy import Policy
from mixserver.wire.text import QUOTED, SENTENCE, clean, is_name
from mixserver.wire.worker import UNITS, VERSION, Hello, ModelCard, Role


def unfit(joined: Joined, policy: Policy, pins: Mapping[Role, str]) -> str:
    """Why a worker does not fit; "" if it does.

    Args:
        joined: who it says it is.
        policy: which roles there are, and which model each must have.
        pins: the model of each role that has one by now.
    """
    worker, role, card = joined.worker, joined.role, joined.card
    if role not in policy.roles:
        wanted = ", ".join(policy.roles)
        return (
            f"worker {worker} joined for role {role!r}, but this server asks only: {wanted}. "
            f"Start it with --role {next(iter(policy.roles))}, or add [models.{role}] to mix.toml."
        )
    if card.units != UNITS:
        return (
            f"worker {worker} speaks in {card.units!r}, but this protocol has {UNITS!r}: have it "
            "convert what it sends and gets."
        )
    pin = pins.get(role, card.fingerprint)
    if card.fingerprint != pin:
        whose = "mix.toml" if policy.roles[role] else "the first worker that joined"
        return (
            f"worker {worker} has model {card.name!r} with fingerprint {card.fingerprint}, but the "
            f"{role} model of this run is {pin} ({whose} says so). Start it with the same model, "
            f"or correct models.{role}.fingerprint and start a new run."
        )
    return ""


def taken(joined: Joined, owner: str, silence_s: float) -> str:
    """Why a worker cannot have a name that another one has.

    Args:
        joined: the one that wants it.
        owner: "HOST:PID" of the one that has it.
        silence_s: how long ago that one was heard.
    """
    return (
        f"the name {joined.worker} belongs to another worker (process {owner or 'unknown'}, heard "
        f"{silence_s:.1f} s ago); give each worker its own with --name, or leave --name out"
    )


def misspoken(hello: Hello) -> str:
    """Why a Hello cannot even be considered; "" if it can."""
    if hello.protocol != VERSION:
        return (
            f"worker {clean(hello.name)} speaks version {hello.protocol} of the worker protocol, "
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


def cleaned(card: ModelCard) -> ModelCard:
    """The same card with what is only read by people fit to be printed."""
    return msgspec.structs.replace(
        card,
        engine=clean(card.engine),
        name=clean(card.name),
        dtype=clean(card.dtype),
        units=clean(card.units),
        no_weights=clean(card.no_weights, SENTENCE),
    )
