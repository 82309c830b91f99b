"""Argon as the toy engine has it: the quickest crystal there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cells import fcc

from mixserver.distill.folder import open_folder
from mixserver.distill.material import Material, material
from mixserver.distill.pool import workers
from mixserver.distill.reading import Order, load_order
from mixserver.frame import Frame, Topology
from mixserver.record.structures import write_frame

CONSTANT = 5.25
SOFT = (
    "temperatures = [20.0, 40.0]\natoms = 32\nsnapshots = 3\ntimestep_fs = 5.0\n"
    "equilibration_ps = 0.1\nevery_ps = 0.05\nfriction_fs = 200.0\nstrained = 2\nvacancies = 1\n"
)


def order_in(folder: Path, *, soft: str = SOFT, more: str = "", seconds: float = 0.0) -> Order:
    """A recipe in a folder, as a user has it."""
    write_frame(folder / "ar.xyz", crystal(1))
    (folder / "distill.toml").write_text(
        'name = "ar"\nstructure = "ar.xyz"\n[expensive]\ncommand = ["toy", "--epsilon", "0.0104", '
        f'"--sigma", "3.4", "--cutoff", "5.2", "--seconds", "{seconds}"]\n'
        f"[soft]\n{soft}{more}"
    )
    return load_order(folder)


def crystal(cells: int = 2) -> Frame:
    """The perfect supercell, as argon."""
    frame = fcc(cells, CONSTANT, rattle=0.0)
    topology = Topology(np.full(len(frame), 18, np.int32))
    return topology.frame(frame.positions, frame.cell)


async def asked(order: Order) -> Material:
    """Real workers, asked everything that is asked before the first fit."""
    with open_folder(order.folder) as run:
        async with workers(order, order.folder / "workers") as dispatcher:
            return await material(order, run, dispatcher, lambda *_: None, cheap_reach=6.3)
