"""What the notebooks promise their readers, read from the files, without a kernel."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator

import nbformat
import pytest

from nstlab import course

CHAPTERS = {chapter.number: chapter.path for chapter in course.chapters()}
LONGEST_LINE = 110  # characters that fit beside JupyterLab's file browser
SAYING = ("Markdown", "HTML", "Latex")  # IPython's ways to display a sentence


def code_cells(number: str) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(CHAPTERS[number], as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", [])]


def is_folded(cell: nbformat.NotebookNode) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def called(call: ast.Call) -> str:
    """The last name of what is called: `Markdown` in `display.Markdown(...)`."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def spells_an_answer(source: str) -> bool:
    """Whether a cell displays a sentence that is put together in it: Markdown of anything but a plain text."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and called(node) in SAYING]
    said = [value for call in calls for value in (*call.args, *(keyword.value for keyword in call.keywords))]
    return any(not isinstance(value, ast.Constant) for value in said)


def is_figure(node: ast.AST) -> bool:
    """Whether this is a call of nstlab.plots."""
    return isinstance(node, ast.Call) and getattr(getattr(node.func, "value", None), "id", None) == "plots"


def names(source: str, context: type) -> Iterator[str]:
    """The names that a cell reads (ast.Load) or defines (ast.Store)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            yield node.id
        elif context is ast.Store and isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif context is ast.Store and isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif context is ast.Store and isinstance(node, ast.arg):
            yield node.arg
        elif context is ast.Store and isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


@pytest.mark.parametrize("number", CHAPTERS)
def test_no_line_of_code_is_cut_off(number):
    lines = [line for cell in code_cells(number) for line in cell.source.splitlines()]
    assert not [line for line in lines if len(line) > LONGEST_LINE]


@pytest.mark.parametrize("number", CHAPTERS)
def test_all_imports_stand_in_the_set_up_cell(number):
    first, *others = (ast.parse(cell.source) for cell in code_cells(number))
    assert all(isinstance(statement, (ast.Import, ast.ImportFrom)) for statement in first.body)
    late = [node for tree in others for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [ast.unparse(node) for node in late]


@pytest.mark.parametrize("number", CHAPTERS)
def test_what_is_imported_is_used(number):
    first, *others = code_cells(number)
    assert set(names(first.source, ast.Store)) <= {name for cell in others for name in names(cell.source, ast.Load)}


@pytest.mark.parametrize("number", CHAPTERS)
def test_an_answer_is_folded_away_before_it_is_computed(number):
    """Folded are the cells that spell an answer, and nothing that a reader should see: no figure, no lesson."""
    for cell in code_cells(number):
        assert is_folded(cell) == spells_an_answer(cell.source), cell.source
        assert is_folded(cell) or "What we saw" not in cell.source, cell.source
        assert not is_folded(cell) or not any(map(is_figure, ast.walk(ast.parse(cell.source)))), cell.source


@pytest.mark.parametrize("number", CHAPTERS)
def test_what_can_be_read_can_be_understood(number):
    """A cell that is shown uses no name that only a folded one defines."""
    shown = set(dir(builtins))
    for cell in code_cells(number):
        if not is_folded(cell):
            shown |= set(names(cell.source, ast.Store))
            assert not set(names(cell.source, ast.Load)) - shown, cell.source


@pytest.mark.parametrize(
    ("source", "spelt"),
    [
        ('display(Markdown(f"It is {x}."))', True),
        ('display(Markdown("It is {}.".format(x)))', True),
        ('IPython.display.Markdown(data="\\n".join(lines))', True),
        ('said = f"It is {x}."\nMarkdown(said)', True),
        ('display(Markdown("Look closely."))', False),
        ('print(f"by hand {x:.3f}")', False),
    ],
)
def test_a_cell_that_spells_an_answer_is_known(source, spelt):
    assert spells_an_answer(source) == spelt


@pytest.mark.parametrize("number", CHAPTERS)
def test_the_book_folds_what_the_notebook_folds(number, load_script):
    """myst-nb shows the source of a cell with this tag when it is asked for."""
    book = nbformat.read(CHAPTERS[number], as_version=4)
    ready = load_script("docs/book/make_book.py").ready_for_print(book, set())
    for cell in ready.cells:
        assert ("hide-input" in cell.metadata.get("tags", [])) == is_folded(cell)


@pytest.mark.parametrize("number", CHAPTERS)
def test_double_precision_is_asked_for_on_the_cpu(number):
    """Apple's GPUs, which `device=auto` takes on a Mac, do not have it."""
    for cell in code_cells(number):
        assert not re.findall(r".*(?<!\.cpu\(\))\.double\(\)", cell.source), "write .cpu().double()"
