"""Build the book: execute every notebook, and make a web site of them that opens from a file.

    python docs/book/make_book.py                    out/book/site/index.html
    python docs/book/make_book.py --small --only 00,01,04

An executed copy is kept by the content of its notebook, its parameters and the package's version, and runs are
stored by their id, so a second build executes nothing.
"""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import nbformat

from nstlab import course
from nstlab.errors import RequestError, RunError
from nstlab.storage import home
from nstlab.sweeps.notebook import execute, notebook_parameters
from nstlab.widgets import moving

HERE = Path(__file__).resolve().parent
WIDGET, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"

# What the notebooks are executed with: for a good picture, and for a look in a minute.
GOOD = {
    "00": {"size": 192, "iterations": 100},
    "03": {"size": 128, "iterations": 150},
    "04": {"size": 256, "iterations": 200},
    "05": {"size": 128, "iterations": 150},
    "06": {"size": 128, "iterations": 100},
    "07": {"size": 128, "iterations": 400, "short": 100},
    "11": {"size": 128, "iterations": 100},
    "12": {"size": 128, "iterations": 150},
    "13": {"size": 192, "iterations": 120},
}
SMALL = {
    "00": {"size": 48, "iterations": 2},
    "01": {"size": 64},
    "02": {"size": 64, "layers": ["relu2_1"]},
    "03": {"size": 48, "iterations": 2, "channels": 1, "favourite_size": 32, "favourite_iterations": 2},
    "04": {"size": 64, "iterations": 4},
    "05": {"size": 40, "iterations": 2},
    "06": {"size": 40, "iterations": 2},
    "07": {"size": 40, "iterations": 16, "short": 6},
    "11": {"size": 40, "iterations": 2},
    "12": {"size": 40, "iterations": 2},
    "13": {"size": 48, "iterations": 2, "groups": 3},
}
SMALL_SWEEP = ["--set", "size=40", "--set", "iterations=2"]

PARTS = {
    "Begin": ["00"],
    "The network": ["01", "02", "03"],
    "The transfer": ["04", "05", "06", "07"],
    "Further": ["08", "09", "10", "11", "12", "13", "14"],
}
PAGES = ("your_own.md", "glossary.md", "further_reading.md", "README.md")

FRONT = """# Style transfer, taken apart

![a photograph, a style picture, and the painting made from them](first.jpg)

Two pictures and one number: from these, a painting forms. **How?** Not by a network that learnt to paint: nothing
is trained here. A network that once learnt to tell cats from cups lends its eyes, and the *picture* changes until
those eyes see the one picture's content in the other picture's style.

This book takes that apart, piece by piece, with every figure made by the code beside it. You need Python and school
mathematics, no deep learning and no GPU.

| chapter | asks |
| --- | --- |
{rows}

Every chapter is a notebook that you can run, here with its results: what stands under "What we saw" was computed when
the page was made, or read from stored runs. The [gallery](gallery.md) has a command for each of these:

[![three photographs, each in four styles](gallery.jpg)](gallery.md)
"""


def source_key(chapter: course.Chapter, parameters: dict) -> str:
    """What an executed copy is kept under: the notebook, its parameters, the package's version."""
    text = json.dumps([chapter.path.read_text(encoding="utf-8"), parameters, version("nstlab")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def executed(chapter: course.Chapter, parameters: dict, kept: Path) -> Path:
    """The executed copy of a notebook, from where it is kept or executed now."""
    folder = kept / f"{chapter.name}-{source_key(chapter, parameters)}"
    copy = folder / "notebook.ipynb"
    if copy.is_file():
        click.echo(f"{chapter.name}: kept from an earlier build")
        return copy
    click.echo(f"{chapter.name}: executing", nl=False)
    try:
        execute(chapter.path, folder, parameters)
    except RunError:
        copy.unlink(missing_ok=True)  # a notebook that failed is no copy to keep
        raise
    click.echo(", done")
    return copy


def ready_for_print(book: nbformat.NotebookNode, there: set[str]) -> nbformat.NotebookNode:
    """With a static picture in each widget's place, folded code, and no warnings or links to what is not there."""
    state = book.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    book.cells = [cell for cell in book.cells if "colab" not in cell.metadata.get("tags", [])]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = without_dead_links(cell.source, there)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = without_dead_links(output.data["text/markdown"], there)
            view = output.get("data", {}).get(WIDGET)
            if view:
                output["data"] = nbformat.from_dict({"text/html": stand_in(view["model_id"], state)})
        if cell.metadata.get("jupyter", {}).get("source_hidden"):  # as JupyterLab does
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        if "injected-parameters" in cell.metadata.get("tags", []):  # the folder is this machine's
            cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("out = "))
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = printed_once(cell.outputs)
            seen = [output.get("metadata", {}).get("image/png", {}).get("alt") for output in cell.outputs]
            if any(seen):
                cell.metadata["mystnb"] = {"image": {"alt": " ".join(filter(None, seen))}}
    return book


def printed_once(outputs: list) -> list:
    """A cell's outputs with what it printed in one piece, in which a progress bar is its last state."""
    merged = []
    for output in outputs:
        if merged and output.get("name") == merged[-1].get("name") == "stdout":
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.get("name") == "stdout":
            output.text = re.sub(r"[^\n]*\r(?=.)", "", output.text)
    return merged


def without_dead_links(text: str, there: set[str]) -> str:
    """Markdown in which a link to a chapter that is not in this book is its text alone."""
    link = r"\[([^\]]*)\]\((\d\d_\w+)\.ipynb\)"
    return re.sub(link, lambda found: found[0] if found[2] in there else found[1], text)


def stand_in(model: str, state: dict) -> str:
    """What is shown in a widget's place: a figure that moves; or the pictures that it holds, and what it would do."""
    if moving.is_moving(state.get(model, {}).get("state", {})):
        return moving.as_html(state[model]["state"], moving.saved_sprite(state[model]["buffers"]))
    pictures = "".join(
        f'<img alt="picture in the widget" src="data:image/{kind};base64,{data}"> '
        for kind, data in held_pictures(model, state)
    )
    said = "Here stands a widget. It needs JupyterLab and a kernel; the figures on this page show the same."
    return f'<div class="nst-stand-in"><p>{html.escape(said)}</p>{pictures}</div>'


def held_pictures(model: str, state: dict) -> list[tuple[str, str]]:
    """(kind, base64) of every large picture in a widget and its children, each once."""
    found, seen, waiting = {}, set(), [model]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in state:
            continue
        seen.add(name)
        for buffer in state[name].get("buffers", []):
            data = base64.b64decode(buffer["data"])
            kind = "png" if data[:4] == b"\x89PNG" else "jpeg" if data[:2] == b"\xff\xd8" else None
            if kind and len(data) > 1000:
                found[hashlib.sha256(data).digest()] = (kind, base64.b64encode(data).decode())
        text = json.dumps(state[name].get("state", {}))
        waiting += [part.split('"')[0] for part in text.split("IPY_MODEL_")[1:]]
    return list(found.values())[:3]


def contents(chapters: list[course.Chapter]) -> str:
    """The table of contents: parts with the chapters that are there, then the pages besides."""
    placed = {number for numbers in PARTS.values() for number in numbers}
    parts = PARTS | {"More": [chapter.number for chapter in chapters if chapter.number not in placed]}
    names = {title: [c.name for c in chapters if c.number in numbers] for title, numbers in parts.items()}
    names["Besides"] = [Path(page).stem for page in PAGES] + ["gallery"]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(some) + "\n```\n"
        for title, some in names.items()
        if some
    )


def write_source(copies: dict[course.Chapter, Path], source: Path) -> None:
    """Everything that Sphinx reads, in a folder of its own."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    there = {chapter.name for chapter in copies}
    for chapter, copy in copies.items():
        nbformat.write(ready_for_print(nbformat.read(copy, as_version=4), there), source / f"{chapter.name}.ipynb")
    for page in PAGES:
        text = (home() / "notebooks" / page).read_text(encoding="utf-8")
        (source / page).write_text(without_dead_links(text, there), encoding="utf-8")
    for name in ("first.jpg", "gallery.jpg", "gallery_control.jpg", "poster.jpg", "gallery.md"):
        shutil.copy(home() / "docs" / name, source)
    shutil.copy(HERE / "conf.py", source)
    shutil.copytree(HERE / "_static", source / "_static")
    rows = "\n".join(f"| [{c.number} · {c.title}]({c.name}.ipynb) | {c.question} |" for c in copies)
    (source / "index.md").write_text(FRONT.format(rows=rows) + contents(list(copies)), encoding="utf-8")


def sweep_for_ten(out: Path, small: bool) -> None:
    """Notebook 10 reads a sweep: compute it, or what is missing of it."""
    command = [sys.executable, "-m", "nstlab", "sweep", "smoke", "--out", str(out), *(SMALL_SWEEP if small else [])]
    subprocess.run(command, check=True)


@click.command()
@click.option("--small", is_flag=True, help="Small parameters: a look at the book in a few minutes.")
@click.option("--only", default=None, help="Some chapters only, as 00,01,04.")
@click.option("--folder", default=None, type=click.Path(path_type=Path), help="Where the book goes; out/book if none.")
@click.option("--out", default=None, type=click.Path(path_type=Path), help="The folder of runs; the project's if none.")
def main(small: bool, only: str | None, folder: Path | None, out: Path | None) -> None:
    """Execute the notebooks and build the book."""
    folder = (folder or home() / "out" / "book").absolute()
    out = (out or (folder / "small-runs" if small else home() / "out")).absolute()
    chapters = [c for c in course.chapters() if not only or c.number in only.split(",")]
    if not chapters:
        raise click.UsageError(f"no chapter is numbered {only}")
    copies = {}
    for chapter in chapters:
        if chapter.number == "10":
            sweep_for_ten(out, small)
        takes_out = "out" in notebook_parameters(chapter.path)
        given = dict((SMALL if small else GOOD).get(chapter.number, {})) | ({"out": str(out)} if takes_out else {})
        try:
            copies[chapter] = executed(chapter, given, folder / "executed")
        except (RequestError, RunError) as error:
            raise click.ClickException(str(error)) from None
    write_source(copies, folder / "source")
    site = folder / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(folder / "source"), str(site)]
    if subprocess.run(command).returncode:
        raise click.ClickException("Sphinx could not build the site; what it said stands above")
    click.echo(f"open {site / 'index.html'}")


if __name__ == "__main__":
    main()
