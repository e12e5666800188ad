"""An executed notebook as one page to read: it opens offline, with its formulas drawn and its code folded."""

from __future__ import annotations

import html
import logging
import re

import nbformat
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from nstlab.errors import RequestError
from nstlab.formulas import mathml

ANSWERS = re.compile(r"<details[^>]*>\s*<summary>\s*answers?\s*</summary>.*?</details>\s*", re.I | re.S)
LINK_TO_A_NOTEBOOK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:)[^)\s]+\.(?:ipynb|md)(?:#[^)\s]*)?\)")

TEMPLATE = """\
{%- extends 'lab/index.html.j2' -%}
{% block html_head_css %}{{ super() }}<style>
  .jp-Notebook { max-width: 1000px; margin: 0 auto; padding: 24px 20px 60px; }
  .jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser { display: none; }
  .jp-RenderedHTMLCommon { font-size: 15px; line-height: 1.55; }
  .jp-RenderedHTMLCommon .anchor-link { visibility: hidden; }
  .jp-OutputArea-output { overflow-x: auto; padding: 4px 5px; }
  .jp-RenderedImage img { max-width: 100%; height: auto; }
  details.code { width: 100%; padding-left: 5px; }
  details.code > summary { cursor: pointer; color: #6a645c; font: 13px system-ui, sans-serif; padding: 2px 0; }
  math[display=block] { margin: 10px 0; }
</style>{% endblock %}
{% block input %}
<details class="code"><summary>Code</summary>{{ super() }}</details>
{% endblock %}
{% block data_png %}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
 alt="{{ output | get_metadata('alt', 'image/png') or 'a figure' }}">
</div>
{% endblock %}
"""


class _Renderer(IPythonRenderer):
    """Markdown as nbconvert renders it, with formulas as MathML in place of TeX for a script to find."""

    def inline_math(self, body: str) -> str:
        return _formula(body)

    def block_math(self, body: str) -> str:
        return _formula(body, as_block=True)

    def latex_environment(self, name: str, body: str) -> str:
        return _formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", as_block=True)


def _formula(tex: str, as_block: bool = False) -> str:
    try:
        return mathml(tex, as_block)
    except ValueError:  # a reader can still make something of the TeX
        return f"<code>{html.escape(tex)}</code>"


class _Exporter(HTMLExporter):
    raw_template = TEMPLATE

    @pass_context
    def markdown2html(self, context: object, source: str) -> str:
        renderer = _Renderer(escape=False, attachments=context.get("cell", {}).get("attachments", {}))
        return MarkdownWithMath(renderer=renderer).render(source)


def as_html(book: nbformat.NotebookNode, code: bool = True) -> str:
    """An executed notebook as one self-contained page; its title is `metadata.title`, if there is one.

    Formulas are MathML, code is folded (or left out: code=False), the answers of exercises are left out, and a link to
    another notebook is its text. A figure's alternative text is its output's `metadata["image/png"]["alt"]`. Raises
    RequestError if the page would need a network.
    """
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK_TO_A_NOTEBOOK.sub(r"\1", ANSWERS.sub("", cell.source))
    exporter = _Exporter(exclude_input=not code, exclude_input_prompt=True, exclude_output_prompt=True)
    for name in ("mathjax_url", "require_js_url", "jquery_url"):  # each would be fetched when the page opens
        setattr(exporter, name, "")
    logging.getLogger("traitlets").setLevel(logging.ERROR)  # or it complains about pictures without alternative text
    page, _ = exporter.from_notebook_node(book)
    page = re.sub(r"<script[^>]*\bsrc=[^>]*>\s*</script>", "", page)
    page = re.sub(r"<script[^>]*mathjax[^>]*>.*?</script>", "", page, flags=re.I | re.S)
    if re.search(r"<(script|link|img)[^>]*\b(src|href)=[\"']?(https?:)?//", page):
        raise RequestError("the notebook shows something that an offline page cannot contain")
    return page
