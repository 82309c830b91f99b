"""`mixserver region`: preview of core, blend and buffer, and a scan of their radii."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mixserver.analysis.region_preview import RegionPreview
    from mixserver.analysis.region_scan.grid import Radii
    from mixserver.analysis.region_scan.results import Scan
    from mixserver.config import Case


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.argument("ranges", nargs=-1, metavar="[RANGE]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The extxyz; pictures are written beside it, as NAME.png and NAME_scan.png.  "
    "[default: CASE/regions.xyz]",
)
@click.option(
    "--receptive-field",
    type=click.FloatRange(min=0.0),
    help="Å of the expensive model, in place of a local worker's own.",
)
@click.option(
    "--scan",
    multiple=True,
    metavar="RANGE",
    help="Radii to measure, core=LOW:HIGH[:STEP] or blend=LOW:HIGH[:STEP] or core=A,B,C, in Å.",
)
@click.option(
    "--displacement",
    type=click.FloatRange(min=0.0, max=0.5),
    default=0.05,
    show_default=True,
    help="Å, random displacements at which a scan compares forces; 0 for a frame of a hot run.",
)
@click.option("--json", "as_json", is_flag=True, help="Numbers as JSON on stdout.")
def region(
    case: Path,
    ranges: tuple[str, ...],
    output: Path | None,
    receptive_field: float | None,
    scan: tuple[str, ...],
    displacement: float,
    as_json: bool,
) -> None:
    """Show the regions of CASE, and what other radii cost.

    Prints how many atoms are seeds, core, blend, buffer, halo and bulk, and the histogram of the
    criterion, if seeds have one, with its bounds. Writes a picture and an extxyz for OVITO, with
    columns lambda (the expensive fraction), shell (3 core, 2 blend, 1 buffer, 0 bulk, -1 halo),
    seed and criterion. Starts local workers only if needed: for the model's receptive field, and
    for values of a criterion.

    --scan measures, with the case's workers, the time of an evaluation and the error of its forces
    against the expensive model for all atoms, which is evaluated once. It prints a table and draws
    a picture. Points marked * are those to choose from.

    \b
    Examples:
      mixserver region inputs/silicon_vacancy
      mixserver region inputs/w_he --scan core=3:8 blend=2:8
    """
    import asyncio

    import msgspec

    from mixserver.analysis.region_preview import preview_region
    from mixserver.analysis.region_scan.grid import read_grid
    from mixserver.cli.logs import configure
    from mixserver.config import load_case

    if ranges and not scan:
        raise click.UsageError(f"{' '.join(ranges)}: a range needs --scan before it")
    if scan and receptive_field is not None:
        raise click.UsageError("--scan takes the receptive field from the worker itself")
    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(f"{output.parent} is not a folder", param_hint="--output")
    configure(None)
    loaded = load_case(case)
    output = output or loaded.folder / "regions.xyz"
    written: dict[str, object] = {}
    if scan:
        grid = read_grid(loaded, (*scan, *ranges))

        def show(seen: RegionPreview) -> None:
            written.update(_report(seen, loaded, output, quiet=as_json))

        measured = _scanned(loaded, grid, displacement, show, quiet=as_json)
        picture = _report_scan(measured, loaded, output, quiet=as_json)
        best = [(point.core_radius, point.blend_width) for point in measured.best()]
        written |= {"scan": measured, "best": best, "picture": str(picture)}
    else:
        seen = asyncio.run(preview_region(loaded, receptive_field=receptive_field))
        written.update(_report(seen, loaded, output, quiet=as_json))
    if as_json:
        click.echo(msgspec.json.encode(written))


def _report(seen: RegionPreview, case: Case, output: Path, *, quiet: bool) -> dict[str, object]:
    """Print a preview, write its extxyz and its picture; return its numbers."""
    from mixserver.analysis.region_figure import draw_preview
    from mixserver.cli.region_text import criterion_text, preview_text

    seen.write(output)
    figure = draw_preview(seen, output.with_suffix(".png"), case.structure.name)
    warnings = seen.warnings()
    if not quiet:
        for text in (preview_text(seen), criterion_text(seen)):
            if text:
                click.echo(text + "\n")
        for words in warnings:
            click.echo(f"WARNING: {words}")
        click.echo(f"written: {output}, {figure}")
    numbers: dict[str, object] = {
        "atoms": len(seen.frame),
        "seeds": len(seen.region.seeds),
        **seen.counts(),
        "clusters": [len(cluster.atoms) for cluster in seen.clusters],
        "warnings": warnings,
        "written": [str(output), str(figure)],
    }
    if seen.criterion is not None:
        numbers["criterion"] = {
            "compute": seen.criterion.seeds.compute,
            "bounds": seen.criterion.bounds,
            "selected": seen.criterion.selected.tolist(),
            "histogram": [one._asdict() for one in seen.criterion.histogram()],
        }
    return numbers


def _scanned(
    case: Case,
    grid: Sequence[Radii],
    displacement: float,
    on_preview: Callable[[RegionPreview], None],
    *,
    quiet: bool,
) -> Scan:
    """Measure a scan, with progress."""
    import asyncio

    from mixserver.analysis.region_scan.measure import scan_case
    from mixserver.cli.steps import shown

    with shown(quiet=quiet) as show:
        return asyncio.run(
            scan_case(
                case,
                grid,
                displacement=displacement,
                on_preview=on_preview,
                on_progress=lambda done: show("radii", done, len(grid)),
            )
        )


def _report_scan(scan: Scan, case: Case, output: Path, *, quiet: bool) -> Path:
    """Print a scan and draw it."""
    from mixserver.analysis.region_scan.figure import draw_scan
    from mixserver.cli.region_text import scan_text

    if not quiet:
        click.echo(f"\n{scan_text(scan)}")
    figure = output.with_name(f"{output.stem}_scan.png")
    draw_scan(scan, figure, case.folder.name)
    if not quiet:
        click.echo(f"written: {figure}")
    return figure
