"""The contact sheet as HTML: a click on a picture shows its settings, its losses and the command that gives it.

Plain HTML without a script to load: it works in JupyterLab, in a saved notebook, and in the report.
"""

from __future__ import annotations

import base64
import html
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
from PIL import Image

from nstlab.errors import RequestError
from nstlab.storage import out_folder
from nstlab.sweeps.outcome import Outcome
from nstlab.sweeps.plan import shown

if TYPE_CHECKING:
    from IPython.display import HTML

TILES = "nstlab-tiles"
"""In a sheet's PNG: run id -> [left, top, right, bottom] of its picture, as fractions of the sheet."""

STYLE = """
.nst-sheet { position: relative; max-width: 900px; margin: 0 0 12px; line-height: 1.4; }
.nst-sheet img { display: block; width: 100%; }
.nst-tile { position: absolute; padding: 0; border: 0; background: none; cursor: pointer; }
.nst-tile:hover, .nst-tile:focus-visible { outline: 3px solid #c1440e; outline-offset: -1px; }
.nst-card { max-width: min(620px, calc(100vw - 60px)); margin: auto auto 24px; padding: 16px 20px;
  border: 1px solid #8d877e; border-radius: 6px; box-shadow: 0 8px 32px #0005;
  background: var(--jp-layout-color1, #fff); color: var(--jp-ui-font-color1, #222);
  font: 14px/1.4 system-ui, sans-serif; }
.nst-card b { font-size: 16px; }
.nst-card dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 10px 0; }
.nst-card dt, .nst-card dd { margin: 0; padding: 0; width: auto; font-weight: 400; }
.nst-card pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 8px 10px; margin: 4px 0 8px;
  background: var(--jp-layout-color2, #f2f0eb); color: inherit; font: 12px/1.5 monospace; user-select: all; }
.nst-card p { margin: 10px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: center; }
.nst-card a { color: #b23c0a; }
"""
COPY = "navigator.clipboard.writeText(this.closest('.nst-card').querySelector('pre').textContent)"
COPIED = f"{COPY}.then(() => this.textContent = 'Copied')"


KEYS = 'data-lm-suppress-shortcuts="true"'
"""JupyterLab then leaves keys alone that are pressed on a picture: `d d` would delete the cell."""


def sheet_pages(outcome: Outcome) -> list[Path]:
    """The contact sheet's pages that are stored, the first one first."""
    pages = [outcome.folder / "contact_sheet.png"]
    while (following := outcome.folder / f"contact_sheet-{len(pages) + 1}.png").is_file():
        pages.append(following)
    return pages


def clickable_sheet(outcome: Outcome, beside: Path | None = None) -> HTML:
    """The contact sheet, for a cell to show: each picture a button that shows what is known of its run.

    beside: the folder of the page that shows it, for links to the runs' files (None: no links, since JupyterLab
    serves only the folder in which it was started). Raises RequestError if there is no sheet.
    """
    from IPython.display import HTML

    rows = {row["run"]: row for _, row in outcome.table.iterrows()}
    parts = []
    for number, page in enumerate(sheet_pages(outcome)):
        try:
            data = page.read_bytes()
        except OSError:
            raise RequestError(f"{page} is missing: `nstlab sweep {outcome.name}` draws it") from None
        text = html.escape(_described(outcome, number))
        picture = f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="{text}">'
        tiles = [_tile(outcome, rows[run], box, beside) for run, box in _tiles(page).items() if run in rows]
        parts.append(f'<div class="nst-sheet" {KEYS}>{picture}{"".join(tiles)}</div>')
    hint = "<p>Click on a picture for its losses, its run and its command.</p>"
    return HTML(f"<style>{STYLE}</style>{''.join(parts)}{hint}")


def _tiles(page: Path) -> dict[str, list[float]]:
    """Where the runs' pictures stand on a sheet; empty for a sheet that does not say, or says nothing sensible."""
    try:
        with Image.open(page) as picture:
            stored = json.loads(picture.text[TILES])
        return {str(run): [float(side) for side in box] for run, box in stored.items() if len(box) == 4}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def _described(outcome: Outcome, number: int) -> str:
    page = f", page {number + 1}" if number else ""
    return f"Contact sheet of the sweep {outcome.name}{page}: {knobs_in_words(outcome.axes)}"


def knobs_in_words(axes: Mapping[str, list[Any]]) -> str:
    """A sweep's knobs with their values, for a text that stands in for a picture.

    >>> knobs_in_words({"k_S": [1.0, 10.0], "init": ["white", None]})
    'k_S 1, 10; init white, none'
    """
    return "; ".join(f"{knob} {', '.join(map(shown, values))}" for knob, values in axes.items())


def _tile(outcome: Outcome, row: pd.Series, box: list[float], beside: Path | None) -> str:
    """A button over a picture, and the card that it opens: the browser's own popover, closed by Esc or a click."""
    left, top, right, bottom = (100 * side for side in box)
    place = f"left:{left:.3f}%;top:{top:.3f}%;width:{right - left:.3f}%;height:{bottom - top:.3f}%"
    name = html.escape(f"nst-{row['run']}-{'report' if beside else 'notebook'}")
    values = html.escape(", ".join(f"{knob} {_value(row[knob])}" for knob in outcome.axes))
    button = f'<button type="button" class="nst-tile" style="{place}" popovertarget="{name}" aria-label="{values}">'
    return (
        f'{button}</button><div class="nst-card" id="{name}" popover><b>{values}</b>{_card(outcome, row, beside)}</div>'
    )


def _card(outcome: Outcome, row: pd.Series, beside: Path | None) -> str:
    if row["state"] != "done":
        again = f"nstlab sweep {shlex.quote(outcome.name)}"
        return f"<p>This run is {html.escape(row['state'])}.</p><pre>{html.escape(again)}</pre>{_copy()}"
    measured = {name: _rounded(row[f"loss_{name}"]) for name in ("content", "style", "total")}
    facts = {f"{name} loss": value for name, value in measured.items()}
    facts |= {"iteration": f"{row['iteration']:.0f}", "computed in": f"{row['seconds']:.0f} s", "run": row["path"]}
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    again = _elsewhere(outcome, row, beside)
    return f"<dl>{lines}</dl>{_command(outcome, row)}<p>{_links(outcome, row, beside)}</p>{again}"


def _elsewhere(outcome: Outcome, row: pd.Series, beside: Path | None) -> str:
    """The other replicates of a run, with links to their pictures where there can be some."""
    said = []
    for _, other in outcome.elsewhere(row).iterrows():
        name = html.escape(", ".join(_value(other[name]) for name in outcome.replicates))
        found = _rounded(other["loss_style"]) if other["state"] == "done" else html.escape(other["state"])
        said.append(f"<span>{_link(outcome, other['picture'], name, beside) or name}: {found}</span>")
    return f"<p>Style loss elsewhere: {''.join(said)}</p>" if said else ""


def _command(outcome: Outcome, row: pd.Series) -> str:
    try:
        command = outcome.run(row).settings.command
    except (RequestError, OSError):
        return "The run is no longer stored."
    if outcome.out != out_folder(None):
        command += f" --out {shlex.quote(str(outcome.out))}"
    return f"The command for this picture alone:<pre>{html.escape(command)}</pre>"


def _links(outcome: Outcome, row: pd.Series, beside: Path | None) -> str:
    files = {"its picture": row["picture"], "its notebook": f"{row['path']}/notebook.ipynb"}
    return _copy() + "".join(_link(outcome, name, text, beside) for text, name in files.items())


def _link(outcome: Outcome, name: str, text: str, beside: Path | None) -> str:
    """A link to a file in the folder of runs; empty if there is none, or no page that it could stand in."""
    if not (beside and name and (outcome.out / name).is_file()):
        return ""
    path = Path(os.path.relpath(outcome.out / name, beside)).as_posix()
    return f'<a href="{html.escape(quote(path))}" target="_blank">{text}</a>'


def _copy() -> str:
    return f'<button type="button" onclick="{html.escape(COPIED)}">Copy the command</button>'


def _value(value: Any) -> str:
    return "none" if value is None or value != value else shown(value)  # an empty cell is NaN, which is not itself


def _rounded(loss: float) -> str:
    """To four digits, with spaces between thousands.

    >>> _rounded(1629450.3), _rounded(0.0123456)
    ('1 629 000', '0.01235')
    """
    return f"{float(f'{loss:.4g}'):,.0f}".replace(",", " ") if abs(loss) >= 1000 else f"{loss:.4g}"
