"""The contact sheet of a sweep, and notebook 10 about it as one HTML file."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
from pathlib import Path

import nbformat

from nstlab import plots
from nstlab.images import load_image, load_styles, side_by_side
from nstlab.storage import home, write_whole
from nstlab.sweeps.notebook import execute
from nstlab.sweeps.outcome import Outcome
from nstlab.sweeps.page import as_html
from nstlab.sweeps.plan import as_code, shown
from nstlab.sweeps.sheet import TILES, clickable_sheet, knobs_in_words

NOTEBOOK = "10_reading_a_sweep.ipynb"


def write_contact_sheets(outcome: Outcome) -> list[Path]:
    """Write contact_sheet.png, and contact_sheet-2.png ... if a third axis turns the page; returns their paths.

    Of a sweep with replicates they show the first one. Raises RequestError if no point of it is done.
    """
    outcome = outcome.one_replicate()
    settings = outcome.example()
    pictures = {
        "content": load_image(settings.content, settings.size),
        "style": side_by_side(load_styles(settings)),
    }
    given = {name: picture for name, picture in pictures.items() if name not in outcome.axes}
    fixed = [
        f"{name} {shown(value)}"
        for name, value in settings.model_dump(mode="json", exclude_defaults=True).items()
        if name not in outcome.axes and name not in ("content", "style", "iterations")
    ]
    note = f"{outcome.name} · {settings.iterations} iterations" + "".join(f" · {text}" for text in fixed)
    title = "  ×  ".join(shown(getattr(settings, name)) for name in given) or "  ×  ".join(outcome.axes)
    old = set(outcome.folder.glob("contact_sheet*.png"))
    paths = []
    sheets = plots.sweep_sheets(outcome.table, outcome.axes, outcome.pictures(), given, title, note)
    for number, figure in zip(itertools.count(1), sheets, strict=False):
        paths.append(outcome.folder / ("contact_sheet.png" if number == 1 else f"contact_sheet-{number}.png"))
        tiles = {
            outcome.table["run"].iloc[row]: [round(side, 4) for side in box]
            for row, box in plots.sheet_tiles(figure).items()
        }
        write_whole(paths[-1], plots.sheet_png(figure, {TILES: json.dumps(tiles)}))
    for path in old - set(paths):  # from a grid with more pages
        path.unlink()
    return paths


def write_report(outcome: Outcome) -> Path:
    """Run notebook 10 on this sweep and write it as one HTML file that opens offline; returns its path.

    Raises RunError if a cell fails.
    """
    given = {"sweep": outcome.name, "out": str(outcome.out)}
    execute(home() / "notebooks" / NOTEBOOK, outcome.folder, given)
    path = outcome.folder / "report.html"
    book = nbformat.read(outcome.folder / "notebook.ipynb", as_version=4)
    write_whole(path, as_html(about(outcome, book)).encode())
    return path


def about(outcome: Outcome, book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Notebook 10, executed on a sweep, as a report of that sweep: its title, its sheet with links, its figures' texts.

    The page stands in the sweep's folder.
    """
    book.metadata["title"] = f"{outcome.name}: {' × '.join(outcome.axes)}"
    book.cells[0].source = _top(outcome, book.cells[0].source)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if 'class="nst-sheet"' in data.get("text/html", ""):
                data["text/html"] = clickable_sheet(outcome, beside=outcome.folder).data
            elif "image/png" in data:
                seen = output.metadata.get("image/png", {}).get("alt", "")
                output.metadata["image/png"] = {"alt": alternative(outcome, cell, seen)}
    return book


def _top(outcome: Outcome, cell: str) -> str:
    """The first cell: what was swept, in place of what the notebook says of itself, and the notebook's question."""
    states = ", ".join(f"{count} {state}" for state, count in outcome.table["state"].value_counts().items())
    settings = outcome.example()
    knobs = "; ".join(
        f"{as_code(name)}: {', '.join(as_code(shown(value)) for value in values)}"
        for name, values in outcome.axes.items()
    )
    question = re.search(r"^\*\*The question:\*\* .+$", cell, re.M)
    return "\n\n".join(
        [
            f"# The sweep {as_code(outcome.name)}: {' × '.join(map(as_code, outcome.axes))}",
            f"{len(outcome.table)} runs ({states}), up to iteration {settings.iterations}, over {knobs}.",
            f"The table, the contact sheet and the settings of all runs stand beside this page, in "
            f"[table.csv](table.csv), [contact_sheet.png](contact_sheet.png) and [sweep.yaml](sweep.yaml); "
            f"{as_code(f'nstlab sweep {shlex.quote(outcome.name)}')} computes what is missing.",
            question[0] if question else "",
        ]
    )


def alternative(outcome: Outcome, cell: nbformat.NotebookNode, seen: str = "") -> str:
    """A text that stands in for a cell's figure: what kind of figure it is, and what is to be seen.

    The kind is the first line of the docstring of the function in `nstlab.plots` that draws it; seen: what the figure
    says of itself, and beside it what the cell printed.
    """
    named = re.findall(r"\bplots\.(\w+)", cell.source)
    drawn = [getattr(plots, name, None) for name in named]
    kinds = [inspect.getdoc(one).splitlines()[0] for one in drawn if inspect.isfunction(one) and inspect.getdoc(one)]
    printed = [" ".join(output.text.split()) for output in cell.outputs if output.get("name") == "stdout"]
    swept = f"Sweep {outcome.name}, {knobs_in_words(outcome.axes)}."
    return " ".join(part for part in (*kinds[-1:], seen, *printed, swept) if part)
