"""Model requirements: can the expensive model do what a recipe needs? Checked when it joins."""

from __future__ import annotations

from mixserver.core.errors import ConfigError
from mixserver.core.labels import element_symbols, unknown_elements
from mixserver.distill.config.load import DistillationProject
from mixserver.wire.worker import ModelCard


def check_model(project: DistillationProject, card: ModelCard) -> None:
    """Reject a model that lacks elements, or whose precision is too low for exact constraints.

    Exact constraints take differences of stresses and forces between strains of a few thousandths,
    and redundant ones are recognised only beyond single precision.

    Raises:
        ConfigError: the model does not meet the requirements.
    """
    frames = {str(project.structure): project.crystal}
    frames |= {one.where: one.frame for one in project.frames}
    for where, frame in frames.items():
        if unknown := unknown_elements(frame.topology.numbers, card.species):
            raise ConfigError(
                f"{where} has {', '.join(unknown)}, which {card.name} does not know (it knows "
                f"{', '.join(element_symbols(card.species or ()))}); use another structure or "
                "another model"
            )
    hard = project.recipe.hard
    if card.dtype != "float64" and hard.form == "exact" and (hard.lattice or hard.elastic):
        raise ConfigError(
            f"{card.name} computes in {card.dtype}, and exact constraints need float64: they are "
            "differences between small strains. Start its worker in double precision (mace: "
            '"--dtype", "float64" in expensive.command), or set hard.form = "tolerance"'
        )


def missing_site_weights(project: DistillationProject, card: ModelCard) -> str:
    """The consequences of a model that cannot weight sites, as a sentence; "" if there are none."""
    partition = project.recipe.partition
    if card.weights or (partition.groups == 1 and not partition.regions):
        return ""
    reason = card.no_weights or "its engine gives no reason"
    return (
        f"{card.name} cannot weight site energies ({reason}), so how it divides the energy among "
        "atoms cannot be learned: ghost forces are neither fitted nor reported. The potential is "
        "for force mixing (mixing.kind = 'force')"
    )
