"""The report of a run as one HTML page with its pictures in it; the text is in page.html.jinja."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from mixserver import __version__
from mixserver.analysis.plots import panels
from mixserver.analysis.plots.draw import atoms_figure, panels_figure
from mixserver.analysis.region_snapshots import newest_snapshot
from mixserver.analysis.report.content import report_content
from mixserver.analysis.run_series import RunSeries
from mixserver.core.errors import ConfigError

STYLE: Final = Path(__file__).parent
"""Where the style of reports is: style.css.jinja."""
_CAPTIONS: Final = {
    "cost": "Time of each evaluation and its parts, which overlap. Long runs are drawn as running "
    "medians. Dotted lines: another run continues.",
    "energy": "Temperatures of core, blend and bulk are taken from how far atoms moved in one "
    "step. Energies are relative to their first value.",
    "region": "Numbers of atoms, and how far the models are apart where they meet.",
    "atoms": "The last frame with λ that is recorded, from two sides. Atoms with λ = 0 are small "
    "and grey.",
}
_ENERGY: Final = (panels.temperature, panels.conserved, panels.potential, panels.work)
_TEMPLATE: Final = Environment(
    loader=FileSystemLoader(STYLE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("page.html.jinja")


def write_run_report(series: RunSeries, output: Path) -> Path:
    """Write the report of a run, and of those that it continues, as one HTML file.

    Raises:
        ConfigError: a record cannot be read, or the file not be written.
    """
    text = _TEMPLATE.render(
        content=report_content(series),
        captions=_CAPTIONS,
        pictures={name: _png(figure) for name, figure in _figures(series).items()},
        version=__version__,
        folder=str(series.folder.resolve()),
    )
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    return output


def _figures(series: RunSeries) -> dict[str, Figure]:
    """The figures of a report that have anything to show, by name."""
    there = panels.panels_for([series])
    chosen: dict[str, Callable[[panels.Panel], bool]] = {
        "cost": lambda panel: panel is panels.times,
        "energy": lambda panel: panel in _ENERGY,
        "region": lambda panel: panel is not panels.times and panel not in _ENERGY,
    }
    found: dict[str, Figure] = {}
    for name, belongs in chosen.items():
        some: Sequence[panels.Panel] = [panel for panel in there if belongs(panel)]
        if some:
            found[name] = panels_figure(series, some)
    if newest_snapshot(series.runs) is not None:
        found["atoms"] = atoms_figure(series)
    return found


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
