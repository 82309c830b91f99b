"""Whether the expensive model's worker can do what a recipe asks, told as soon as it joins."""

from __future__ import annotations

from ase.data import chemical_symbols

from mixserver.distill.reading import Order, symbols_of
from mixserver.errors import ConfigError
from mixserver.wire.worker import ModelCard


def refuse_unsuitable(order: Order, card: ModelCard) -> None:
    """Refuse a model that does not know the elements, or is too coarse for exact constraints.

    Exact constraints take differences of stresses and forces between strains of a few thousandths,
    and tell by digits beyond single precision which of them say the same.

    Raises:
        ConfigError: it does.
    """
    frames = {str(order.structure): order.crystal}
    frames |= {one.where: one.frame for one in order.frames}
    if card.species is not None:
        known = {chemical_symbols[number] for number in card.species}
        for where, frame in frames.items():
            if unknown := sorted(set(symbols_of(frame)) - known):
                raise ConfigError(
                    f"{where} has {', '.join(unknown)}, which {card.name} does not know (it knows "
                    f"{', '.join(sorted(known))}); give another structure or another model"
                )
    hard = order.recipe.hard
    if card.dtype != "float64" and hard.form == "exact" and (hard.lattice or hard.elastic):
        raise ConfigError(
            f"{card.name} computes in {card.dtype}, and exact constraints need float64: they are "
            "differences between small strains. Start its worker in double precision (mace: "
            '"--dtype", "float64" in expensive.command), or set hard.form = "tolerance"'
        )


def not_weighted(order: Order, card: ModelCard) -> str:
    """What cannot be had of a model that does not weight sites, in a sentence; "" if nothing."""
    partition = order.recipe.partition
    if card.weights or (partition.groups == 1 and not partition.regions):
        return ""
    why = card.no_weights or "its engine does not say why"
    return (
        f"{card.name} cannot weight site energies ({why}), so how it divides the energy among "
        "atoms cannot be learned: ghost forces are neither fitted nor told. The potential serves "
        "force mixing (mixing.kind = 'force')"
    )
