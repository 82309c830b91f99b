"""The notebooks: their stored outputs are whole, and executed again they give the same physics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
MOST_BYTES = 200_000


def code_cells(file: Path) -> list[dict[str, Any]]:
    return [c for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_stored_outputs_are_whole_small_and_of_no_ones_folder(file: Path) -> None:
    cells = code_cells(file)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert [o for o in outputs if o.get("name") == "stderr"] == []
    assert file.stat().st_size < MOST_BYTES
    assert str(Path.home()) + "/" not in file.read_text()
    assert "/tmp/" not in file.read_text()


def executed(name: str, *values: str) -> list[Any]:
    """Execute a notebook where it is; the values of expressions at its end."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")

    file = ROOT / "docs/notebooks" / f"{name}.ipynb"
    book = nbformat.read(file, as_version=4)
    asked = f"import json; print(json.dumps([{', '.join(values)}]))"
    book.cells.append(nbformat.v4.new_code_cell(asked))
    where = {"metadata": {"path": str(file.parent)}}
    client = nbclient.NotebookClient(book, timeout=1200, startup_timeout=300, resources=where)
    client.execute()
    found: list[Any] = json.loads(book.cells[-1].outputs[0]["text"])
    return found


@pytest.mark.physics
@pytest.mark.lammps
@pytest.mark.mace
@pytest.mark.filterwarnings("default")
def test_the_vacancy_relaxes_as_with_mace_for_all_atoms() -> None:
    ours, theirs, largest, core = executed(
        "vacancy",
        "energies[-1] - energies[0]",
        "energies_mace[-1] - energies_mace[0]",
        "difference.max()",
        "region.core",
    )
    assert core == 16
    assert theirs == pytest.approx(-0.667, abs=0.005)
    assert ours == pytest.approx(theirs, abs=0.005)
    assert largest < 0.02


@pytest.mark.physics
@pytest.mark.lammps
@pytest.mark.mace
@pytest.mark.filterwarnings("default")
def test_check_tells_a_distilled_potential_from_another() -> None:
    figures, rms, warned = executed(
        "cheap_potential",
        "{name: list(values) for name, values in figures.items()}",
        "rms",
        "[f.what for f in findings['Zuo 2020'] if f.level == 'warning']",
    )
    assert abs(figures["distilled"][0]) < 1e-4
    assert figures["Zuo 2020"][0] == pytest.approx(0.00314, abs=2e-4)
    assert abs(figures["distilled"][1]) < 0.01
    assert abs(figures["Zuo 2020"][1]) > 0.05
    assert rms["distilled"] == pytest.approx(0.073, rel=0.1)
    assert rms["Zuo 2020"] > 3.0 * rms["distilled"]
    assert "bulk lattice" in warned
