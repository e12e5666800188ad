"""The contact sheet of a sweep, and notebook 10 about it as one HTML file."""

from __future__ import annotations

import itertools
import logging
import re
from pathlib import Path

from nstlab import plots
from nstlab.errors import RequestError
from nstlab.images import load_image, load_styles, side_by_side
from nstlab.storage import home, write_whole
from nstlab.sweeps.notebook import execute
from nstlab.sweeps.outcome import Outcome
from nstlab.sweeps.plan import shown

NOTEBOOK = "10_reading_a_sweep.ipynb"


def write_contact_sheets(outcome: Outcome) -> list[Path]:
    """Write contact_sheet.png, and contact_sheet-2.png ... if a third axis turns the page; returns their paths.

    Raises RequestError if no point is done.
    """
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
        write_whole(paths[-1], plots.sheet_png(figure))
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
    write_whole(path, as_html(outcome.folder / "notebook.ipynb").encode())
    return path


def as_html(notebook: Path) -> str:
    """An executed notebook as one self-contained page. Raises RequestError if it still needs a network."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True)
    for name in ("mathjax_url", "require_js_url", "jquery_url"):  # each would be fetched when the page opens
        setattr(exporter, name, "")
    logging.getLogger("traitlets").setLevel(logging.ERROR)  # or it complains about pictures without alternative text
    page, _ = exporter.from_filename(str(notebook))
    page = re.sub(r"<script[^>]*\bsrc=[^>]*>\s*</script>", "", page)
    if re.search(r"<(script|link|img)[^>]*\b(src|href)=[\"']?(https?:)?//", page):
        raise RequestError(f"{notebook} shows something that an offline page cannot contain")
    return page
