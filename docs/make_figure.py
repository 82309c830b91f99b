"""Draws docs/figures/regions.png: a crystal with its core, blend, buffer and halo.

    python docs/make_figure.py

The regions come from `mixserver region`, the same code as in a run. The crystal is one atomic layer
of copper with a vacancy, so that every atom is visible; in three dimensions the shells are balls.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import ase.io
import matplotlib as mpl
import numpy as np
from ase.build import fcc111
from click.testing import CliRunner
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from mixserver.cli import main as mixserver

PICTURE = Path(__file__).parent / "figures" / "regions.png"
CORE, BLEND, RECEPTIVE_FIELD = 4.5, 6.0, 6.0
"""Å."""
MIX = """
[upstream]
address = "unix:figure"
structure = "init.xyz"
[region]
core_radius = {core}
blend_width = {blend}
seeds = {{ kind = "atoms", indices = {seeds} }}
[mixing]
kind = "force"
[models.cheap]
[models.expensive]
"""
MARKERS = {
    "core, λ = 1": {"marker": "o", "s": 50, "color": "#0b2545", "linewidths": 0},
    "blend, 1 > λ > 0": {"marker": "o", "s": 50, "edgecolors": "#0b2545", "linewidths": 0.5},
    "buffer, λ = 0, site weight 1": {
        "marker": "s", "s": 34, "facecolors": "#f2b134", "edgecolors": "#7a4d00", "linewidths": 0.9,
    },
    "halo, λ = 0, site weight 0": {
        "marker": "s", "s": 28, "facecolors": "white", "edgecolors": "#7a4d00", "linewidths": 0.9,
    },
    "bulk, cheap model only": {"marker": ".", "s": 22, "color": "#9a9a9a", "linewidths": 0},
}  # fmt: skip
SHELLS = dict(zip((3, 2, 1, -1, 0), MARKERS, strict=True))
"""The column `shell` that `mixserver region` writes."""


def regions() -> tuple[ase.Atoms, np.ndarray]:
    """A copper layer with a vacancy, divided by mixserver, and the place of the vacancy."""
    layer = fcc111("Cu", (28, 32, 1), a=3.615, orthogonal=True, vacuum=20.0)
    middle = layer.positions.mean(axis=0)
    vacancy = int(np.linalg.norm(layer.positions - middle, axis=1).argmin())
    layer.info.clear()
    place = layer.positions[vacancy].copy()
    del layer[vacancy]
    seeds = np.argsort(np.linalg.norm(layer.positions - place, axis=1))[:6].tolist()
    with tempfile.TemporaryDirectory() as folder:
        case, divided = Path(folder), Path(folder) / "regions.xyz"
        ase.io.write(case / "init.xyz", layer, format="extxyz")
        (case / "mix.toml").write_text(MIX.format(core=CORE, blend=BLEND, seeds=seeds))
        asked = ["region", folder, "-o", str(divided), "--receptive-field", str(RECEPTIVE_FIELD)]
        CliRunner().invoke(mixserver, asked, catch_exceptions=False)
        return ase.io.read(divided), place


def draw(atoms: ase.Atoms, vacancy: np.ndarray) -> None:
    """The layer from above, and lambda along the radius below it."""
    lightness = mpl.colors.LinearSegmentedColormap.from_list("lambda", ["#dbe7f5", "#0b2545"])
    fraction = atoms.arrays["lambda"].astype(float)
    shell = atoms.arrays["shell"].astype(int)
    x, y = (atoms.positions - vacancy)[:, :2].T
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6.6, 7.2), height_ratios=[4.6, 1.0], layout="constrained"
    )
    for code, name in SHELLS.items():
        of = shell == code
        colour = {"c": lightness(fraction[of])} if code == 2 else {}
        above.scatter(x[of], y[of], **MARKERS[name], **colour)
    above.scatter(0, 0, marker="x", s=50, color="black", linewidths=1.6)
    above.set(xlim=(-34, 34), ylim=(-27.5, 27.5), aspect="equal", xticks=[], yticks=[])
    shown = {name: {**MARKERS[name]} for name in MARKERS}
    shown["blend, 1 > λ > 0"]["facecolors"] = lightness(0.5)
    handles = [above.scatter([], [], label=name, **style) for name, style in shown.items()]
    seeds = "vacancy (its neighbours are the seeds)"
    handles.append(Line2D([], [], marker="x", color="black", linestyle="", label=seeds))
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=9, frameon=False)

    reach = np.linalg.norm(np.stack([x, y]), axis=0)
    distance = np.linspace(0, 34, 700)
    seed = reach.min()
    depth = np.clip((distance - seed - CORE) / BLEND, 0, 1)
    below.plot(distance, (1 - depth) ** 3 * (1 + 3 * depth + 6 * depth**2), color="#0b2545")
    edges = np.cumsum([seed + CORE, BLEND, RECEPTIVE_FIELD, RECEPTIVE_FIELD])
    for edge in edges:
        below.axvline(edge, color="#9a9a9a", linewidth=0.8, linestyle="--")
    names = ("core", "blend", "buffer", "halo", "bulk")
    for name, low, high in zip(names, (0, *edges), (*edges, 34), strict=True):
        below.text((low + high) / 2, 1.1, name, ha="center", fontsize=9)
    below.set(xlim=(0, 34), ylim=(-0.05, 1.3), yticks=[0, 1], ylabel="λ",
              xlabel="distance from the vacancy, straight through a seed (Å)")  # fmt: skip
    figure.savefig(PICTURE, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    mpl.use("Agg")
    draw(*regions())
