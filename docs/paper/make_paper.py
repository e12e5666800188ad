"""Make the article: notebook 14, executed, as one HTML page and as a PDF, with numbered figures and references.

    python docs/paper/make_paper.py        out/paper/article.html, and article.pdf where there is a Chromium

Cells tagged `course` (set-up, predictions, exercises) and all code are left out. A figure's caption is the comment
`# Figure: ...` at the top of its cell. Works are cited as "Gatys, Ecker & Bethge 2016" or "... (2016)"; those that are
cited are listed from references.bib.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import click
import nbformat
from pybtex.database import BibliographyData, Entry, parse_file
from pybtex.plugin import find_plugin

from nstlab import course
from nstlab.errors import RequestError, RunError
from nstlab.storage import home, write_whole
from nstlab.sweeps.notebook import execute
from nstlab.sweeps.page import as_html

HERE = Path(__file__).resolve().parent
NAME = r"[A-Z][\w’'-]+"
CITATION = re.compile(rf"(?P<names>{NAME}(?:, {NAME})*(?: & {NAME}| et al\.)?)\s(?P<year>\(?(?:19|20)\d\d\)?)")
CAPTION = re.compile(r"# Figure: (.+(?:\n# .+)*)")
FOR_THE_COURSE = ("**By the end**", "**Time:**")
STYLE = """<style>
  body.jp-Notebook { max-width: 820px; }
  .jp-RenderedHTMLCommon { font-family: Georgia, 'DejaVu Serif', serif; text-align: justify; hyphens: auto; }
  .jp-RenderedHTMLCommon h1, .jp-RenderedHTMLCommon h2, .jp-RenderedHTMLCommon h3 { text-align: left; }
  .jp-RenderedHTMLCommon :is(a:link, a:visited) { text-decoration: underline; }
  .nst-figure { font: 13px/1.4 system-ui, sans-serif; color: #444; margin: 2px 0 14px; }
  .jp-RenderedHTMLCommon :is(td, th, li) { text-align: left; }
  .jp-RenderedImage img { max-width: 94%; }
  .nst-references p { padding-left: 2em; text-indent: -2em; text-align: left; }
  @page { size: A4; margin: 20mm 18mm; }
  @media print {
    body.jp-Notebook { padding: 0; font-size: 10pt; }
    body.jp-Notebook * { break-inside: auto; }
    .jp-Cell-outputWrapper, .jp-OutputArea-child, .jp-OutputArea-output { display: block; overflow: visible; }
    body.jp-Notebook :is(.jp-RenderedImage, tr, li) { break-inside: avoid; }
    body.jp-Notebook .jp-CodeCell:has(img) { break-inside: avoid; }
    .jp-RenderedImage img { max-width: 84%; }
    h2, h3 { break-after: avoid; }
    p { orphans: 3; widows: 3; }
    a { color: inherit; text-decoration: none; }
  }
</style>"""


def article(book: nbformat.NotebookNode, works: BibliographyData) -> nbformat.NotebookNode:
    """An executed notebook as an article: what readers of the course alone need is gone, works are cited and listed.

    Raises RequestError for a citation that has no reference.
    """
    cells, cited, figures = [], {}, 0
    for cell in book.cells:
        if "course" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream"]
            for output in cell.outputs:
                data = output.get("data", {})
                if "text/markdown" in data:
                    data["text/markdown"] = cite(data["text/markdown"], works, cited)
            if any("image/png" in output.get("data", {}) for output in cell.outputs):
                figures += 1
                cell.outputs.append(_caption(cell, figures, works, cited))
            if not cell.outputs:
                continue
        else:
            cell.source = cite(cell.source, works, cited)
        cells.append(cell)
    cells.append(nbformat.v4.new_markdown_cell("## References\n\n" + references(works, cited)))
    title, *rest = cells[0].source.split("\n\n")
    book.metadata["title"] = title = re.sub(r"^# (\d\d · )?", "", title)
    rest = [part for part in rest if not part.startswith(FOR_THE_COURSE)]
    made = f"*Made from stored sweeps by nstlab {version('nstlab')}.*"
    cells[0].source = "\n\n".join([f"# {title}", made, *rest])
    book.cells = cells
    return book


def cite(text: str, works: BibliographyData, cited: dict[str, None]) -> str:
    """Markdown in which every citation leads to its work's entry among the references; adds the works to `cited`.

    Raises RequestError for one that is not in references.bib.
    """
    known = {short_name(entry): key for key, entry in works.entries.items()}

    def link(found: re.Match[str]) -> str:
        name = " ".join(f"{found['names']} {found['year'].strip('()')}".split())
        if name not in known:
            raise RequestError(f"{name} is cited, but references.bib has no such work")
        cited[known[name]] = None
        return f"[{found[0]}](#{known[name]})"

    return CITATION.sub(link, text)


def short_name(entry: Entry) -> str:
    """`Gatys, Ecker & Bethge 2016`; of more than three authors the first, with et al."""
    names = [" ".join(person.last_names) for person in entry.persons["author"]]
    if len(names) > 3:
        text = f"{names[0]} et al."
    else:
        text = " & ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{text} {entry.fields['year']}"


def references(works: BibliographyData, cited: dict[str, None]) -> str:
    """The cited works by author, as BibTeX's plain style has them, each with its key as the anchor."""
    style = find_plugin("pybtex.style.formatting", "plain")()
    backend = find_plugin("pybtex.backends", "html")()
    chosen = sorted(cited, key=lambda key: short_name(works.entries[key]))
    formatted = style.format_bibliography(works, chosen)
    entries = {entry.key: entry.text.render(backend) for entry in formatted.entries}
    lines = "\n".join(f'<p id="{key}">{entries[key]}</p>' for key in chosen)
    return f'<div class="nst-references">\n{lines}\n</div>'


def _caption(
    cell: nbformat.NotebookNode, number: int, works: BibliographyData, cited: dict[str, None]
) -> nbformat.NotebookNode:
    """What stands under a figure, which is its alternative text, too. Raises RequestError for a figure without one."""
    found = CAPTION.match(cell.source)
    if not found:
        raise RequestError(f"figure {number} has no caption: its cell must begin with a comment `# Figure: ...`")
    text = found[1].replace("\n# ", " ")
    for output in cell.outputs:
        output.metadata["image/png"] = {"alt": text}
    said = f"*Figure {number}.* {cite(text, works, cited)}"
    return nbformat.v4.new_output("display_data", {"text/markdown": f'<div class="nst-figure">\n\n{said}\n\n</div>'})


def write_pdf(page: Path, chromium: str) -> Path:
    """The page as a PDF beside it, printed by Chromium, with page numbers."""
    from playwright.sync_api import sync_playwright

    path = page.with_suffix(".pdf")
    number = '<div style="font:8px sans-serif;width:100%;text-align:center"><span class="pageNumber"></span></div>'
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        sheet = browser.new_page()
        sheet.goto(page.as_uri())
        options = {"header_template": "<div></div>", "footer_template": number, "display_header_footer": True}
        sheet.pdf(path=path, prefer_css_page_size=True, outline=True, tagged=True, **options)
        browser.close()
    return path


@click.command()
@click.option("--folder", default=None, type=click.Path(path_type=Path), help="Where it goes; out/paper if none.")
def main(folder: Path | None) -> None:
    """Execute notebook 14 and write the article."""
    folder = (folder or home() / "out" / "paper").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (chapter,) = (c for c in course.chapters() if c.number == "14")
    try:
        execute(chapter.path, folder, {})
        book = nbformat.read(folder / "notebook.ipynb", as_version=4)
        page = as_html(article(book, parse_file(HERE / "references.bib")), code=False)
    except (RequestError, RunError) as error:
        raise click.ClickException(str(error)) from None
    made = html.escape(f"nstlab {version('nstlab')}")
    page = page.replace("</head>", f'{STYLE}<meta name="generator" content="{made}"></head>', 1)
    path = folder / "article.html"
    write_whole(path, page.encode())
    click.echo(f"open {path}")
    chromium = os.environ.get("NSTLAB_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium:
        click.echo(f"     {write_pdf(path, chromium)}")
    else:
        click.echo("no PDF, for want of Chromium (NSTLAB_CHROMIUM says where it is): print the page from a browser")


if __name__ == "__main__":
    main()
