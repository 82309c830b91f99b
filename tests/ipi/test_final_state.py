"""What i-PI ends with: sound runs of every temperature pass, nonsense does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixserver.ipi.final_state import final_state_error

KELVIN = 3.1668115634564e-6
"""Hartree."""
HOTTEST = 1e6


def _restart(
    folder: Path, kelvin: float, *, beads: int = 1, atoms: int = 5, spoil: str = ""
) -> Path:
    rng = np.random.default_rng(1)
    masses = rng.uniform(2e3, 3e5, atoms)
    momenta = rng.normal(size=(beads, atoms, 3)) * np.sqrt(masses * kelvin * KELVIN)[:, None]
    momenta *= np.sqrt(kelvin * KELVIN / max(1e-300, float((momenta**2 / masses[:, None]).mean())))

    def listed(tag: str, values: np.ndarray) -> str:
        rows = ", ".join(f"{value: .8e}" for value in values.ravel())
        return f"<{tag} shape='{values.shape}'>\n [ {rows} ]\n</{tag}>"

    text = (
        f"<simulation><step>3</step><system><beads natoms='{atoms}' nbeads='{beads}'>"
        f"{listed('q', rng.normal(size=(beads, 3 * atoms)))}{listed('p', momenta)}"
        f"{listed('m', masses)}</beads></system></simulation>"
    )
    if spoil:
        start = text.index(f"<{spoil} ")
        at = text.index("[", start)
        text = f"{text[: at + 1]} nan, {text[text.index(',', at) + 1 :]}"
    file = folder / "RESTART"
    file.write_text(text)
    return file


@given(st.floats(0.0, 0.9e6), st.integers(1, 8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_that_is_simulated_passes(tmp_path: Path, kelvin: float, beads: int) -> None:
    assert final_state_error(_restart(tmp_path, kelvin, beads=beads), {}, HOTTEST) == ""


@given(st.floats(1.1e6, 1e35), st.integers(1, 8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_has_exploded_does_not(tmp_path: Path, kelvin: float, beads: int) -> None:
    file = _restart(tmp_path, kelvin, beads=beads)
    wrong = final_state_error(file, {}, HOTTEST)
    assert "limits.temperature" in wrong
    assert float(wrong.split(" is ")[1].split()[0]) == pytest.approx(kelvin, rel=1e-2)
    assert final_state_error(file, {}, np.inf) == ""


@pytest.mark.parametrize("what", ["q", "p"])
def test_numbers_that_are_none(tmp_path: Path, what: str) -> None:
    assert "finite" in final_state_error(_restart(tmp_path, 300.0, spoil=what), {}, HOTTEST)


def test_what_was_printed_last(tmp_path: Path) -> None:
    file = _restart(tmp_path, 300.0)
    assert (
        final_state_error(file, {"step": 3.0, "temperature": 310.0, "potential": -1e9}, HOTTEST)
        == ""
    )
    assert "potential" in final_state_error(file, {"potential": float("nan")}, HOTTEST)
    assert "conserved" in final_state_error(file, {"conserved": float("inf")}, HOTTEST)
    assert "3e+30 K" in final_state_error(file, {"temperature": 3e30}, HOTTEST)


@pytest.mark.parametrize("text", [None, "", "<simulation>", "<simulation/>", "<a><system/></a>"])
def test_without_a_restart_nothing_is_wrong(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "RESTART"
    if text is not None:
        file.write_text(text)
    assert final_state_error(file, {}, HOTTEST) == ""
