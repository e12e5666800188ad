"""What the book is made of: the chapters that are there, static pictures for widgets, links that lead somewhere."""

import base64
import io

import nbformat
import pytest
from PIL import Image

from nstlab import course
from nstlab.errors import RequestError
from nstlab.sweeps import notebook_parameters


@pytest.fixture(scope="module")
def make_book(load_script):
    """docs/book/make_book.py as a module."""
    return load_script("docs/book/make_book.py")


def chapter(folder, number, name, top=None):
    """A notebook with everything that a chapter must state about itself."""
    top = top or f"# {number} · A title\n\n**The question:** what?\n\n**Time:** a minute; more at size 512."
    path = folder / f"{number}_{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(top)]), path)
    return path


def test_chapters_are_those_that_are_there(tmp_path):
    chapter(tmp_path, "09", "evaluation")
    chapter(tmp_path, "02", "first")
    (tmp_path / "notes.ipynb").write_text("no chapter")
    found = course.chapters(tmp_path)
    assert [(c.number, c.name, c.title, c.question, c.time) for c in found] == [
        ("02", "02_first", "A title", "what?", "a minute"),
        ("09", "09_evaluation", "A title", "what?", "a minute"),
    ]


def test_a_chapter_that_says_nothing_of_itself_is_named(tmp_path):
    chapter(tmp_path, "03", "silent", top="# Silence")
    with pytest.raises(RequestError, match=r"03_silent\.ipynb: its first cell"):
        course.chapters(tmp_path)


def test_the_table_of_contents_takes_chapters_as_they_come(make_book, tmp_path):
    chapter(tmp_path, "01", "one")
    without = make_book.contents(course.chapters(tmp_path))
    chapter(tmp_path, "08", "network_reduction")
    chapter(tmp_path, "99", "unforeseen")
    with_it = make_book.contents(course.chapters(tmp_path))
    assert "08" not in without and "Further" not in without
    assert ":caption: Further\n\n08_network_reduction\n" in with_it
    assert ":caption: More\n\n99_unforeseen\n" in with_it


def test_the_key_of_an_executed_copy_follows_notebook_and_parameters(make_book, tmp_path):
    chapter(tmp_path, "01", "one")
    (first,) = course.chapters(tmp_path)
    key = make_book.source_key(first, {"size": 64})
    assert make_book.source_key(first, {"size": 64}) == key != make_book.source_key(first, {"size": 65})
    chapter(tmp_path, "01", "one", top="# 01 · B\n\n**The question:** x\n\n**Time:** y")
    assert make_book.source_key(first, {"size": 64}) != key


def test_a_link_to_an_absent_chapter_becomes_its_text(make_book):
    text = "[here](01_one.ipynb), [there](08_two.ipynb), [words](glossary.md)"
    assert make_book.without_dead_links(text, {"01_one"}) == "[here](01_one.ipynb), there, [words](glossary.md)"


def test_a_widget_becomes_the_pictures_that_it_holds(make_book):
    buffer = io.BytesIO()
    Image.effect_noise((90, 90), 80).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    state = {
        "outer": {"state": {"children": ["IPY_MODEL_inner", "IPY_MODEL_gone"]}},
        "inner": {"state": {"parent": "IPY_MODEL_outer"}, "buffers": [{"data": data}]},
        "other": {"state": {}, "buffers": [{"data": base64.b64encode(b"x" * 9000).decode()}]},
    }
    assert make_book.held_pictures("outer", state) == [("png", data)]
    output = nbformat.v4.new_output("display_data", {make_book.WIDGET: {"model_id": "outer"}, "text/plain": "VBox()"})
    cell = nbformat.v4.new_code_cell("panel", outputs=[output])
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {make_book.STATE: {"state": state}}})
    ready = make_book.ready_for_print(book, set())
    assert f"data:image/png;base64,{data}" in ready.cells[0].outputs[0].data["text/html"]
    assert "widgets" not in ready.metadata  # nothing asks for a script from a network


def test_the_folder_of_runs_is_not_printed(make_book):
    cell = nbformat.v4.new_code_cell("# Parameters\nsize = 64\nout = '/home/me/out'")
    cell.metadata["tags"] = ["injected-parameters"]
    own = nbformat.v4.new_code_cell("out = None  # the folder of runs")
    ready = make_book.ready_for_print(nbformat.v4.new_notebook(cells=[cell, own]), set())
    assert [cell.source for cell in ready.cells] == ["# Parameters\nsize = 64", own.source]


def test_a_progress_bar_is_printed_as_it_was_at_the_end(make_book):
    texts = ["before\n", "\rtransfer: 0%", "\rtransfer: 50%", "\rtransfer: 100%\n", "after\n"]
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]
    cell = nbformat.v4.new_code_cell("run.advance()", outputs=outputs)
    ready = make_book.ready_for_print(nbformat.v4.new_notebook(cells=[cell]), set())
    assert [output.text for output in ready.cells[0].outputs] == ["before\ntransfer: 100%\nafter\n"]


@pytest.mark.parametrize("kind", ["GOOD", "SMALL"])
def test_the_book_asks_for_parameters_that_notebooks_have(make_book, kind):
    wanted = getattr(make_book, kind)
    for chapter in course.chapters():
        known = notebook_parameters(chapter.path)
        for name, value in wanted.get(chapter.number, {}).items():
            assert name in known, f"{chapter.name} has no parameter {name}"
            assert name != "size" or value >= 39, "the style pictures would be less than 32 pixels high"
