"""The page of a report: one HTML file with everything in it, and its pictures beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mixserver.crystal.portrait import Portrait
from mixserver.distill.report.figures import elastic_error, figures
from mixserver.distill.results import Candidate, Result, write_result

_NONE: Final = "–"
_OFF: Final = 2.0
"""%, from which a deviation is marked."""
_GHOST: Final = 0.02
_STRAIN: Final = 2e-4
"""Misfit of the lattice, relative, from which it is marked."""
_CAPTIONS: Final = {
    "parity": "Energies, forces and virials of structures that were not fitted: expensive against "
    "cheap, by kind and temperature.",
    "errors": "Root mean square force errors by kind and temperature.",
    "curve": "Energy against volume, atoms relaxed, each measured from its own minimum.",
    "phonons": "Phonon frequencies. Lines: expensive model. Dots: candidates.",
    "front": "What fitting the perfect crystal's partition costs: weights of ghost forces stand "
    "at the points.",
    "sweep": "Resolutions and cutoffs. Grey: another one is cheaper and better. Ringed: the least "
    "product of cost and force error.",
}
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --bad: #b5403a; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 74rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
.bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
figure { margin: 1.5rem 0; } figcaption { font-size: 13px; opacity: .8; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
"""


def write_report(result: Result, folder: Path) -> Path:
    """Write report.html, report.json and the pictures.

    Args:
        result: what was found.
        folder: exists.

    Returns:
        report.html.
    """
    (folder / "report.json").write_bytes(write_result(result))
    pictures: list[str] = []
    for name, figure in figures(result).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        (folder / f"report-{name}.png").write_bytes(buffer.getvalue())
        data = base64.b64encode(buffer.getvalue()).decode()
        caption = html.escape(_CAPTIONS[name])
        pictures.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    file = folder / "report.html"
    file.write_text(_page(result, pictures), encoding="utf-8")
    return file


def verdict(result: Result) -> list[str]:
    """Whether the first candidate is good enough to mix with, and what to change, in sentences."""
    one = result.candidates[0]
    words: list[str] = []
    if one.portrait is None:
        return [f"{one.label} has no crystal at rest: {one.trouble}. It must not be used."]
    misfit = (one.portrait.volume / result.portrait.volume) ** (1.0 / 3.0) - 1.0
    off = elastic_error(one, result.portrait) or 0.0
    if abs(misfit) > _STRAIN:
        words.append(f"The lattices differ by {100 * misfit:.3f} %: say hard.lattice = true.")
    if off > _OFF:
        words.append(f"Elastic constants are off by up to {off:.1f} %: say hard.elastic = true.")
    if not one.portrait.stable:
        words.append(
            "A phonon or a strain lowers its energy: raise twojmax or pair.functions, or take "
            "more snapshots."
        )
    ghost = one.ghost(4.0)
    if ghost is not None and ghost.largest > _GHOST:
        words.append(
            f"Ghost forces reach {ghost.largest:.3f} eV/Å in a 4 Å blend: use wider blends, dead "
            "loads, a longer pair.cutoff or a larger partition.price."
        )
    if not words:
        words.append("Lattice, elastic constants and ghost forces are fit to mix with.")
    return words


def _page(result: Result, pictures: Sequence[str]) -> str:
    title = html.escape(f"{result.name}: a cheap potential from {result.expensive}")
    parts = [
        f"<h1>{title}</h1>",
        *(f"<p><strong>{html.escape(sentence)}</strong></p>" for sentence in verdict(result)),
        "<h2>Candidates</h2>",
        "<p>The first was written. Errors are of structures that were not fitted.</p>",
        _table(_crystal_rows(result, result.candidates)),
        _table(_error_rows(result.candidates)),
    ]
    if result.sweep:
        parts += ["<h2>Resolutions and cutoffs</h2>"]
        if result.recommended:
            parts.append(f"<p>Recommended: {html.escape(result.recommended)}.</p>")
        parts += [
            _table(_crystal_rows(result, result.sweep)),
            _table(_error_rows(result.sweep)),
        ]
    parts += ["<h2>Pictures</h2>", *pictures, "<h2>Time</h2>", _table(_time_rows(result))]
    parts += ["<h2>Notes</h2><ul>"]
    parts += [f"<li>{html.escape(note)}</li>" for note in result.notes]
    parts += [
        f"<li>model fingerprint {html.escape(result.fingerprint)}</li>",
        *(
            f"<li>{html.escape(c.label)}: {html.escape(c.trouble)}</li>"
            for c in (*result.candidates, *result.sweep)
            if c.trouble
        ),
        "</ul>",
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


Cell = tuple[str, bool]
"""Text, and whether it is marked."""


def _crystal_rows(result: Result, listed: Sequence[Candidate]) -> list[list[Cell]]:
    head = [
        "",
        "µs per atom",
        "coefficients",
        "volume (Å³)",
        "length misfit (%)",
        "C11 C12 C44 (GPa)",
        "largest error of C (%)",
        "bulk modulus (GPa)",
        "vacancy (eV)",
        "ghost: abrupt",
        "4 Å",
        "8 Å (eV/Å)",
        "e − c (eV)",
        "inclusion",
    ]
    rows: list[list[Cell]] = [[(word, False) for word in head]]
    seen = result.portrait
    first = [result.expensive, _NONE, _NONE, f"{seen.volume:.4f}", _NONE, _cubic(seen), _NONE]
    first += [f"{seen.bulk_modulus:.1f}", _number(seen.vacancy, 2), *[_NONE] * 5]
    rows.append([(word, False) for word in first])
    for one in listed:
        p = one.portrait
        off = elastic_error(one, seen)
        misfit = None if p is None else 100.0 * ((p.volume / seen.volume) ** (1 / 3) - 1.0)
        ghosts = [one.ghost(blend) for blend in (0.0, 4.0, 8.0)]
        rows.append(
            [
                (one.label, False),
                (_number(one.microseconds, 1), False),
                (f"{one.coefficients or _NONE} ({one.constraints} hard)", False),
                (_number(None if p is None else p.volume, 4), False),
                (_number(misfit, 4), misfit is not None and abs(misfit) > 100 * _STRAIN),
                (_NONE if p is None else _cubic(p), off is not None and off > _OFF),
                (_number(off, 2), off is not None and off > _OFF),
                (_number(None if p is None else p.bulk_modulus, 1), False),
                (_number(None if p is None else p.vacancy, 2), False),
                *((_number(None if g is None else g.largest, 4), False) for g in ghosts),
                (_number(one.spread, 4), False),
                (_number(one.inclusion, 4), False),
            ]
        )
    return rows


def _error_rows(listed: Sequence[Candidate]) -> list[list[Cell]]:
    kinds = sorted({errors.of for one in listed for errors in one.errors})
    rows: list[list[Cell]] = [
        [("force error (eV/Å); energy error (meV per atom)", False), *((of, False) for of in kinds)]
    ]
    for one in listed:
        found = {errors.of: errors for errors in one.errors}
        cells: list[Cell] = [(one.label, False)]
        for of in kinds:
            errors = found.get(of)
            text = (
                _NONE
                if errors is None
                else f"{_number(errors.forces, 3)}; {_number(1e3 * errors.energy, 2)}"
            )
            cells.append((text, False))
        rows.append(cells)
    return rows


def _time_rows(result: Result) -> list[list[Cell]]:
    rows: list[list[Cell]] = [[("step", False), ("seconds", False)]]
    rows += [[(step, False), (f"{s:.1f}", False)] for step, s in result.seconds.items()]
    rows.append([("together", False), (f"{sum(result.seconds.values()):.1f}", False)])
    return rows


def _table(rows: Sequence[Sequence[Cell]]) -> str:
    def line(row: Sequence[Cell], tag: str) -> str:
        cells = "".join(
            f"<{tag}{' class=bad' if bad else ''}>{html.escape(text)}</{tag}>" for text, bad in row
        )
        return f"<tr>{cells}</tr>"

    body = "\n".join(line(row, "td") for row in rows[1:])
    return (
        f'<div class="wide"><table><thead>{line(rows[0], "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cubic(seen: Portrait) -> str:
    return _NONE if seen.cubic is None else " ".join(f"{c:.1f}" for c in seen.cubic)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
