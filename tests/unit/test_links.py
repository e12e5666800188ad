"""Links to Colab and Binder, for any address: written, replaced, removed; the cell for Colab does nothing elsewhere."""

import shutil
import sys
import types

import click
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from nstlab import course
from nstlab.storage import home
from nstlab.sweeps import notebook_parameters

ADDRESS = "https://github.com/someone/nstlab"


@pytest.fixture(scope="module")
def make_links(load_script):
    """docs/make_links.py as a module."""
    return load_script("docs/make_links.py")


@pytest.fixture
def clone(tmp_path):
    """The notebooks and README alone."""
    (tmp_path / "notebooks").mkdir()
    for chapter in course.chapters():
        shutil.copy(chapter.path, tmp_path / "notebooks")
    shutil.copy(home() / "README.md", tmp_path)
    return tmp_path


def texts(clone):
    return {path.name: path.read_text() for path in [*clone.glob("notebooks/*"), clone / "README.md"]}


def run(make_links, clone, *words):
    make_links.main([*words, "--root", str(clone)], standalone_mode=False)


def test_links_come_change_and_go(make_links, clone):
    before = texts(clone)
    run(make_links, clone, ADDRESS)
    first = texts(clone)
    name = "04_vanilla_transfer.ipynb"
    assert f"colab.research.google.com/github/someone/nstlab/blob/HEAD/notebooks/{name}" in first[name]
    assert f"mybinder.org/v2/gh/someone/nstlab/HEAD?labpath=notebooks%2F{name}" in first[name]
    assert "colab-badge.svg" in first["README.md"] and "badge" not in first[name]  # no picture from a network
    run(make_links, clone, ADDRESS)
    assert texts(clone) == first
    run(make_links, clone, "https://gitlab.com/group/other")
    assert all("someone" not in text and "colab.research" not in text for text in texts(clone).values())
    assert "mybinder.org/v2/gl/group%2Fother/HEAD" in texts(clone)[name]
    run(make_links, clone, "--remove")
    assert texts(clone) == before


def test_a_linked_notebook_is_still_a_chapter_with_parameters(make_links, clone):
    run(make_links, clone, ADDRESS)
    chapters = course.chapters(clone / "notebooks")
    assert [c.question for c in chapters] == [c.question for c in course.chapters()]
    path = chapters[4].path
    assert notebook_parameters(path) == notebook_parameters(course.chapters()[4].path)
    nbformat.validate(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("on_colab", [False, True])
def test_the_first_cell_installs_on_colab_alone(make_links, monkeypatch, on_colab):
    if on_colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    shell, asked = InteractiveShell(), []
    shell.register_magic_function(asked.append, "line", "pip")
    result = shell.run_cell(make_links.CELL.format(address=ADDRESS))
    assert result.success and asked == ([f'install -q "nstlab @ git+{ADDRESS}"'] if on_colab else [])


@pytest.mark.parametrize(
    "address", ["github.com/a/b", "http://github.com/a/b", "https://example.org/a/b", "https://github.com/a"]
)
def test_other_addresses_are_refused(make_links, clone, address):
    with pytest.raises(click.UsageError, match="an address like"):
        run(make_links, clone, address)
