"""The page of a report: one HTML file with everything in it, and its pictures beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mixserver.distill.report import tables
from mixserver.distill.report.figures import figures
from mixserver.distill.report.fronts import priced
from mixserver.distill.report.markup import folded, heading, listing, paragraph, picture
from mixserver.distill.report.style import MOST
from mixserver.distill.report.verdict import verdict
from mixserver.distill.results import Candidate, Result, write_result
from mixserver.errors import ConfigError

_CAPTIONS: Final = {
    "parity": "Energies, forces and virials of structures that were not fitted: the written "
    "potential against the expensive model. Colours go from cold to hot, shapes tell the kinds "
    "apart. On the grey line both agree; rms is over all that is shown.",
    "errors": "Root mean square errors of structures that were not fitted, by kind and "
    "temperature. Lines join temperatures of one kind.",
    "curve": "Energy against volume, atoms relaxed, each from its own minimum.",
    "phonons": "Phonon frequencies at special points of the Brillouin zone. Black lines: the "
    "expensive model. From them to each candidate's goes a bar: its length is the error.",
    "front": "What a fair division of energy among atoms costs. Each point is a fit; beside it "
    "stands the weight of ghost forces in it. Ringed: the weight that was chosen.",
    "sweep": "Resolutions and cutoffs: 2J and cutoff at each point. Left: cost against force "
    "error in hot bulk; right: cost against deviations of the lattice constant and of the elastic "
    "constants. Grey: another one is cheaper and has better forces. Ringed: recommended. Names "
    "without room are left out; the tables have all.",
    "time": "Wall time of each step.",
}
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --off: #a8322c; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --off: #ff9d94; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
  margin: 1rem 0; min-width: 24rem; }
caption { text-align: left; padding-bottom: .4rem; max-width: 60rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; white-space: normal; }
th[colspan] { text-align: center; }
th[scope=row] { text-align: left; font-weight: 400; }
tr.strong { background: var(--soft); } tr.strong > * { font-weight: 600; }
table.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
small { opacity: .75; font-size: 11px; }
td.off { color: var(--off); font-weight: 600; } td.off small { opacity: 1; }
.good, .care, .bad { border-left: 4px solid #3c8d5a; padding: .2rem 0 .2rem .8rem;
  font-weight: 600; }
.care { border-color: #d9822b; } .bad { border-color: var(--off); }
.wide { overflow-x: auto; }
figure { margin: 1.2rem 0; } figcaption { font-size: 13px; max-width: 60rem; opacity: .85; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
details { margin: .8rem 0; }
"""


def write_report(result: Result, folder: Path) -> Path:
    """Write report.html, report.json and a PNG of each picture, report-NAME.png.

    Args:
        result: what was found.
        folder: exists.

    Returns:
        report.html.

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
                f"{folder / name} cannot be written ({error.strerror}); make room or give a folder "
                "that is yours, and start again: what was computed is kept"
            ) from error
    return folder / "report.html"


def page(result: Result, pictures: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        result: what was found.
        pictures: PNGs in base64, by the names of `figures`.
    """
    title = f"{result.name}: a cheap potential from {result.expensive}"
    parts = [heading(title, 1), *_headline(result), *_candidates(result)]
    for name in ("parity", "errors", "curve", "phonons"):
        parts += _picture(result, pictures, name)
    if "phonons" in pictures:
        parts.append(folded("The frequencies in numbers", tables.phonon_table(result)))
    if result.trials:
        parts += [heading("Does the crystal hold?"), tables.trials(result)]
    if result.front:
        parts += [heading("Ghost forces against force errors")]
        parts += _picture(result, pictures, "front")
        parts.append(folded("The weights in numbers", tables.front_table(result)))
    if result.sweep:
        parts += _sweep(result, pictures)
    if result.seconds:
        parts += [heading("Time"), *_picture(result, pictures, "time")]
        parts.append(folded("The steps in numbers", tables.times(result)))
    parts += [heading("Notes"), listing(_notes(result))]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _headline(result: Result) -> list[str]:
    judged = verdict(result)
    parts = [paragraph(judged.sentences[0], judged.worth)]
    if len(judged.sentences) > 1:
        parts.append(listing(judged.sentences[1:]))
    return [*parts, tables.headline(result)]


def _candidates(result: Result) -> list[str]:
    one = result.candidates[0].label
    return [
        heading("Candidates"),
        paragraph(f"“{one}” is what was written; the others are for comparison."),
        tables.crystals(result, result.candidates, [one]),
        tables.interfaces(result.candidates, [one]),
        tables.error_table(result.candidates, [one]),
        _missing(result.candidates),
    ]


def _sweep(result: Result, pictures: Mapping[str, str]) -> list[str]:
    best = [result.recommended] if result.recommended else []
    _, of = priced(result.sweep)
    words = (
        f"Recommended: {result.recommended}. It has the least product of cost and force error"
        f"{f' ({of})' if of else ''}; choose another one if you need less of either."
        if best
        else "None can be recommended: costs, force errors or crystals are not known."
    )
    return [
        heading("Resolutions and cutoffs"),
        paragraph(words),
        *_picture(result, pictures, "sweep"),
        tables.crystals(result, result.sweep, best),
        tables.interfaces(result.sweep, best),
        tables.error_table(result.sweep, best),
        _missing(result.sweep),
    ]


def _picture(result: Result, pictures: Mapping[str, str], name: str) -> list[str]:
    if name not in pictures:
        return []
    caption = _CAPTIONS[name]
    if name in {"errors", "curve", "phonons"} and len(result.candidates) > MOST:
        caption += f" Of {len(result.candidates)} candidates the first {MOST}."
    return [picture(caption, pictures[name])]


def _missing(listed: list[Candidate] | tuple[Candidate, ...]) -> str:
    """Why something is missing, if anybody said so."""
    told = [f"{one.label}: {one.trouble}" for one in listed if one.trouble]
    told += [
        f"{one.label}: {one.portrait.trouble}"
        for one in listed
        if one.portrait is not None and one.portrait.trouble
    ]
    return listing(told) if told else ""


def _notes(result: Result) -> list[str]:
    notes = list(result.notes)
    if not result.ghost_free:
        notes.append("No rows of ghost forces could be had, so they were not fitted.")
    notes.append(
        "An en dash (–) stands for what is not known. All values are in report.json, the pictures "
        "beside it."
    )
    return notes
