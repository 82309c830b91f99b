"""The barrier in each of the case's potentials, each on its own relaxed path, as a table.

    python barriers.py [all_mace mix no_loads force all_snap]

For each name, i-PI relaxes both ends with what NAME.toml mixes (relax.xml, or quench.xml for mixed
forces), then the band between them (input.xml), and then asks for the forces along its first half.
The band starts from path.xyz, or from the all-MACE band once there is one. Runs are in runs/ as
always, bands in runs/NAME.xyz.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mixserver.analysis.records import read_reports
from mixserver.cli.logs import configure
from mixserver.config import Case, load_case
from mixserver.core.units import BOHR
from mixserver.server.launch import run_case
from mixserver.server.records.recorder import new_run_folder

HERE = Path(__file__).resolve().parent
ROWS = ("all_mace", "mix", "no_loads", "force", "all_snap")
POINTS = 9
"""Where forces are asked for, between the first image and the middle one."""
STATIC = """<simulation verbosity='low'>
  <output prefix='simulation'>
    <trajectory filename='for' stride='1'> forces{ev/ang} </trajectory>
  </output>
  <total_steps> 1 </total_steps>
  <ffsocket name='mixserver' mode='unix' pbc='false'>
    <address> silicon_vacancy_neb </address>
  </ffsocket>
  <system>
    <initialize nbeads='POINTS'> <file mode='xyz'> path.xyz </file> </initialize>
    <forces> <force forcefield='mixserver'/> </forces>
    <motion mode='dummy'/>
  </system>
</simulation>
"""

Images = NDArray[np.float64]
"""(images, atoms, 3) Å."""


@dataclasses.dataclass(frozen=True)
class Barrier:
    """What was found in one potential."""

    height: float
    """Of the middle image over the first, eV; the work where no energy belongs to the forces."""
    back: float
    """Of the middle image over the last, eV; nan where no energy belongs to the forces."""
    work: float
    """Done against the forces from the first image to the middle one, eV."""
    steps: int
    seconds: float
    """Wall time of one step of the band."""


def barrier(name: str, work_folder: Path) -> Barrier:
    """Relax ends and band in one potential."""
    case = load_case(HERE / f"{name}.toml")
    # mixed forces have no energy to be lowest
    by_force = case.config.region is not None and case.config.mixing.kind == "force"
    earlier = work_folder / "all_mace.xyz"
    images = read_images(earlier if earlier.exists() else HERE / "path.xyz")

    relax = _text("quench.xml" if by_force else "relax.xml")
    start, end = (work_folder / f"{name}.{which}.xyz" for which in ("start", "end"))
    write_images(start, images[:1])
    write_images(end, images[-1:])
    relax = relax.replace(" start.xyz", f" {start}").replace(" end.xyz", f" {end}")
    images[[0, -1]] = positions(run(case, relax, work_folder / f"{name}.relax.xml"))

    path = work_folder / f"{name}.path.xyz"
    write_images(path, images)
    band = _text("input.xml").replace("nbeads='5'", f"nbeads='{len(images)}'")
    done = run(case, band.replace(" path.xyz", f" {path}"), work_folder / f"{name}.neb.xml")
    images = positions(done)
    write_images(work_folder / f"{name}.xyz", images)
    printed = np.loadtxt(done / "simulation.out", ndmin=2)[-1]
    energies = printed[1:]
    evaluation = 1e-3 * float(np.median([report.ms_total for report in read_reports(done)]))

    work = work_along(case, images, name, work_folder)
    middle = energies[len(images) // 2]
    return Barrier(
        height=work if by_force else float(middle - energies[0]),
        back=np.nan if by_force else float(middle - energies[-1]),
        work=work,
        steps=int(printed[0]),
        seconds=evaluation * (len(images) - 2),
    )


def work_along(case: Case, images: Images, name: str, work_folder: Path) -> float:
    """Integrate a potential's forces from the first image to the middle one: eV against them."""
    pieces = np.linalg.norm(np.diff(images, axis=0), axis=(1, 2))
    at = np.concatenate([[0.0], np.cumsum(pieces)])
    curve = CubicSpline(at, images)
    where = np.linspace(0.0, at[len(images) // 2], POINTS)
    path = work_folder / f"{name}.half.xyz"
    write_images(path, curve(where))
    text = STATIC.replace("POINTS", str(POINTS)).replace(" path.xyz", f" {path}")
    done = run(case, text, work_folder / f"{name}.static.xml")
    forces = [read_images(done / f"simulation.for_{bead}.xyz")[0] for bead in range(POINTS)]
    slopes = [-float(np.vdot(*pair)) for pair in zip(forces, curve(where, 1), strict=True)]
    return float(CubicSpline(where, slopes).integrate(where[0], where[-1]))


def run(case: Case, text: str, source: Path) -> Path:
    """Run a case with another i-PI input than its own; returns the folder of the run."""
    source.write_text(text, encoding="utf-8")
    ipi = msgspec.structs.replace(case.config.ipi, input=str(source))
    config = msgspec.structs.replace(case.config, ipi=ipi)
    folder = new_run_folder(case.folder / config.record.folder)
    configure(folder / "server.log")
    asyncio.run(run_case(dataclasses.replace(case, config=config), folder, stop=asyncio.Event()))
    return folder


def positions(folder: Path) -> Images:
    """Where a run left the beads of all its systems, one after the other."""
    found = []
    for node in ET.parse(folder / "RESTART").getroot().iterfind("system/beads/q"):  # noqa: S314
        numbers = np.array((node.text or "").strip(" []\n").split(","), dtype=float)
        beads = int(re.findall(r"\d+", node.attrib["shape"])[0])
        found.append(numbers.reshape(beads, -1, 3) * BOHR)
    return np.concatenate(found)


def read_images(file: Path) -> Images:
    """Read frames in i-PI's xyz format."""
    rows = file.read_text(encoding="utf-8").splitlines()
    size = int(rows[0]) + 2
    frames = [rows[at + 2 : at + size] for at in range(0, len(rows), size)]
    return np.array([[row.split()[1:] for row in frame] for frame in frames], dtype=float)


def write_images(file: Path, images: Images) -> None:
    """Write frames in i-PI's xyz format, in the cell of init.xyz."""
    header = _text("init.xyz").splitlines()[1]
    with file.open("w", encoding="utf-8") as out:
        for image in images:
            out.write(f"{len(image)}\n{header}\n")
            out.writelines("Si {:.8f} {:.8f} {:.8f}\n".format(*atom) for atom in image)


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@click.command(help=(__doc__ or "").split("\n", maxsplit=1)[0])
@click.argument("names", nargs=-1, type=click.Choice(ROWS))
def main(names: tuple[str, ...]) -> None:
    """Run what was asked for and print the table."""
    work_folder = HERE / "runs"
    work_folder.mkdir(exist_ok=True)
    click.echo("potential     barrier        back        work (eV)  steps   s/step")
    for name in names or ROWS:
        found = barrier(name, work_folder)
        click.echo(
            f"{name:12s}{found.height:9.5f}{found.back:12.5f}{found.work:12.5f}"
            f"{found.steps:11d}{found.seconds:9.2f}"
        )


if __name__ == "__main__":
    main()
