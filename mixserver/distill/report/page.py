"""The report of a distillation: report.html with all figures in it, report.json and PNG files.

The text of the page is in page.html.jinja.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mixserver.analysis.report.page import STYLE
from mixserver.core.errors import ConfigError
from mixserver.distill.report import tables
from mixserver.distill.report.figures import figures
from mixserver.distill.report.fronts import priced
from mixserver.distill.report.style import MOST
from mixserver.distill.report.verdict import verdict
from mixserver.distill.results import Result, write_result

_CAPTIONS: Final = {
    "training": "Training of the written potential. Left: errors of forces of structures that were "
    "not trained with. Right: differences between the two experts in bulk structures that were not "
    "trained with.",
    "parity": "Energies, forces and virials of structures that were not fitted: the written "
    "potential against the expensive model. Colours: temperatures, from dark (cold) to bright "
    "(hot); shapes: kinds of structures. On the grey line both agree; rms is over all points.",
    "errors": "Root mean square errors of structures that were not fitted, by kind and "
    "temperature. Lines join temperatures of one kind.",
    "curve": "Energy against volume, atoms relaxed; each curve relative to its own minimum.",
    "phonons": "Phonon frequencies at special points of the Brillouin zone. Black lines: the "
    "expensive model. Bars lead from there to each candidate; their length is the error.",
    "front": "Force error against ghost forces. Each point is a fit, labelled with the weight of "
    "its partition rows. Ringed: the chosen weight.",
    "sweep": "2J and cutoff of each point. Left: force error of hot bulk against cost. Right: "
    "deviations of the lattice constant and of the elastic constants against cost. Grey: another "
    "candidate is cheaper and has smaller force errors. Ringed: recommended. Labels without room "
    "are left out; the tables list all.",
    "time": "Wall time of each step.",
}
_TEMPLATE: Final = Environment(
    loader=FileSystemLoader([Path(__file__).parent, STYLE]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("page.html.jinja")


def write_report(result: Result, folder: Path) -> Path:
    """Write report.html, report.json and a PNG of each picture, report-NAME.png; path of the first.

    Raises:
        ConfigError: a file cannot be written.
    """
    made: dict[str, str] = {}
    files = {"report.json": write_result(result)}
    for name, figure in figures(result).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        files[f"report-{name}.png"] = buffer.getvalue()
        made[name] = base64.b64encode(buffer.getvalue()).decode()
    files["report.html"] = page(result, made).encode()
    for name, content in files.items():
        try:
            (folder / name).write_bytes(content)
        except OSError as error:
            raise ConfigError(
                f"{folder / name} cannot be written ({error.strerror}). Free disk space or choose "
                "a writable folder, and start again: results so far are kept"
            ) from error
    return folder / "report.html"


def page(result: Result, pictures: Mapping[str, str]) -> str:
    """The page as HTML; pictures are PNGs in base64, by the names of `figures`."""
    captions = dict(_CAPTIONS)
    if len(result.candidates) > MOST:
        for name in ("errors", "curve", "phonons"):
            captions[name] += f" The first {MOST} of {len(result.candidates)} candidates."
    return _TEMPLATE.render(
        title=f"{result.name}: a small expert trained together with {result.expensive}"
        if result.trained
        else f"{result.name}: a cheap potential from {result.expensive}",
        result=result,
        verdict=verdict(result),
        error_of=priced(result.sweep)[1],
        tables=tables,
        missing=lambda listed: [
            f"{one.label}: {why}"
            for one in listed
            for why in (one.trouble, one.bulk.trouble if one.bulk else "")
            if why
        ],
        captions=captions,
        pictures=pictures,
    )
