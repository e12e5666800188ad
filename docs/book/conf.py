"""Sphinx's settings for the book: `make book` builds it from executed notebooks. No network, no kernel, no CDN."""

from docutils.nodes import SkipNode

from nstlab.formulas import mathml

project = "nstlab"
author = "the nstlab contributors"
extensions = ["myst_nb"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # the copies are executed already
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

html_theme = "sphinx_book_theme"
html_title = "Style transfer, taken apart"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses to a page from a file
html_context = {"default_mode": "light"}
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the sidebar has a search field already
}


def _inline(self, node):
    self.body.append(mathml(node.astext()))
    raise SkipNode


def _display(self, node):
    self.body.append(f'<div class="math notranslate">{mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app):
    """Formulas become MathML, which browsers draw themselves: MathJax would come from a network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
