"""Write links that open the notebooks on Colab and on Binder: once the project has an address.

    python docs/make_links.py https://github.com/OWNER/NAME
    python docs/make_links.py --remove

Every notebook gets a line of links under its title, and a first cell that installs nstlab on Colab and does nothing
elsewhere; README gets badges. Running it again replaces what is there. Colab opens notebooks from GitHub alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

import click
import nbformat

from nstlab.storage import home, write_whole

BEGIN, END = "<!-- links -->", "<!-- end of links -->"
TAG = "colab"
CELL = """\
# Installs nstlab on Colab; elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install -q "nstlab @ git+{address}\""""
HOSTS = {"github.com": "gh", "gitlab.com": "gl"}  # as Binder names them


def links_of(address: str, name: str) -> dict[str, str]:
    """Where a notebook opens: "Colab" and "Binder" -> an address, as far as its host allows.

    Raises click.UsageError for an address of neither GitHub nor GitLab.
    """
    parts = urlsplit(address)
    path = parts.path.strip("/").removesuffix(".git")
    if parts.scheme != "https" or parts.netloc not in HOSTS or path.count("/") < 1:
        raise click.UsageError(f"{address}: an address like https://github.com/OWNER/NAME is needed")
    found = {}
    if parts.netloc == "github.com":
        found["Colab"] = f"https://colab.research.google.com/github/{path}/blob/HEAD/notebooks/{name}"
    repository = path if parts.netloc == "github.com" else quote(path, safe="")
    found["Binder"] = f"https://mybinder.org/v2/{HOSTS[parts.netloc]}/{repository}/HEAD?labpath=notebooks%2F{name}"
    return found


def linked(book: nbformat.NotebookNode, address: str | None, name: str) -> nbformat.NotebookNode:
    """A notebook with its links and the cell for Colab; without both for no address."""
    book.cells = [cell for cell in book.cells if TAG not in cell.metadata.get("tags", [])]
    top = book.cells[0]
    top.source = without(top.source)
    if address:
        title, _, rest = top.source.partition("\n")
        line = " · ".join(f"[Open in {where}]({link})" for where, link in links_of(address, name).items())
        top.source = f"{title}\n\n{BEGIN}{line}{END}\n{rest}"
        cell = nbformat.v4.new_code_cell(CELL.format(address=address), metadata={"tags": [TAG]})
        cell["id"] = TAG
        book.cells.insert(1, cell)
    return book


def without(text: str) -> str:
    """Markdown without the links that stand in it."""
    return re.sub(rf"\n*{BEGIN}.*?{END}\n?", "\n", text, flags=re.S)


@click.command()
@click.argument("address", required=False)
@click.option("--remove", is_flag=True, help="Take the links away.")
@click.option("--root", default=None, type=click.Path(path_type=Path), help="The clone; this one if none.")
def main(address: str | None, remove: bool, root: Path | None) -> None:
    """Write the links for a repository's ADDRESS."""
    if bool(address) == remove:
        raise click.UsageError("give an address, or --remove")
    root = root or home()
    address = address.rstrip("/") if address else None
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for path in paths:
        book = linked(nbformat.read(path, as_version=4), address, path.name)
        write_whole(path, (nbformat.writes(book) + "\n").encode())
    readme = root / "README.md"
    text = without(readme.read_text(encoding="utf-8"))
    if address:
        badges = {"Colab": "colab.research.google.com/assets/colab-badge.svg", "Binder": "mybinder.org/badge_logo.svg"}
        found = links_of(address, paths[0].name)
        line = " ".join(f"[![Open in {where}](https://{badges[where]})]({link})" for where, link in found.items())
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n{BEGIN}{line}{END}\n{rest}"
    write_whole(readme, text.encode())
    click.echo(f"{len(paths)} notebooks and README {'link to ' + ' and '.join(found) if address else 'have no links'}")


if __name__ == "__main__":
    main()
