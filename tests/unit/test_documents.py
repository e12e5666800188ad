"""Links lead somewhere, words are spelt right, and what is said in several places agrees."""

import re
import shlex
import subprocess
import sys
import tomllib
import urllib.parse
from pathlib import Path

import nbformat
import pytest

from nstlab import course
from nstlab.settings import Settings
from nstlab.storage import home

DOCUMENTS = sorted(
    path
    for path in [*home().glob("*.md"), *home().glob("docs/*.md"), *home().glob("notebooks/*.md")]
    + list(home().glob("notebooks/*.ipynb"))
)


def prose(path: Path) -> str:
    """The Markdown of a document, without its code."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub and the book make them."""
    headings = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def leads_somewhere(target: Path, anchor: str) -> bool:
    """Whether a file is there and, if an anchor is asked for in a document, a heading for it."""
    if not target.exists():
        return False
    return not anchor or target.suffix not in (".md", ".ipynb") or anchor in anchors(prose(target))


def dead_links(path: Path) -> list[str]:
    """The relative links of a document that lead nowhere."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = urllib.parse.unquote(link).partition("#")
        target = path.parent / name if name else path
        if not leads_somewhere(target, anchor):
            dead.append(link)
    return dead


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_resolve(path):
    assert not dead_links(path)


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.md").write_text("# One two\n[x](#one-two) [y](#three) [z](gone.md) [w](a.md#one-two) `[c](code.md)`")
    assert dead_links(tmp_path / "a.md") == ["#three", "gone.md"]


def test_spelling():
    pytest.importorskip("codespell_lib", reason="codespell is a development dependency: pip install -e .[dev]")
    places = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "notebooks", "nstlab", "data", "tests"]
    command = [sys.executable, "-m", "codespell_lib", *places]
    checked = subprocess.run(command, cwd=home(), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_spelling_check_finds_a_slip(tmp_path):
    pytest.importorskip("codespell_lib", reason="codespell is a development dependency: pip install -e .[dev]")
    (tmp_path / "slip.md").write_text("this was " + "rec" + "ieved\n")
    command = [sys.executable, "-m", "codespell_lib", str(tmp_path / "slip.md")]
    assert subprocess.run(command, capture_output=True, text=True).returncode


def test_readme_lists_every_notebook_and_its_number():
    table = (home() / "README.md").read_text(encoding="utf-8")
    for chapter in course.chapters():
        assert re.search(rf"^\| \[?{chapter.number} ", table, re.M), f"README's table lacks {chapter.name}"


def test_teachers_readme_plans_every_notebook():
    text = (home() / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert {chapter.path.name for chapter in course.chapters()} <= set(re.findall(r"\((\d\d_\w+\.ipynb)\)", text))


def test_versions_and_names_agree():
    project = tomllib.loads((home() / "pyproject.toml").read_text())["project"]
    readme = (home() / "README.md").read_text(encoding="utf-8")
    least = project["requires-python"].removeprefix(">=")
    pins = (home() / "constraints.txt").read_text().splitlines()
    assert f"Python {least}" in pins[0] and f"Python {least}" in readme
    assert f"name: {project['name']}" in (home() / "environment.yml").read_text()
    assert readme.startswith(f"# {project['name']}\n")
    for command in re.findall(r"^make ([a-z-]+)", readme, re.M):
        assert re.search(rf"^{command}:", (home() / "Makefile").read_text(), re.M), command


def test_the_command_beside_a_picture_is_the_one_that_made_it(load_script):
    make_gallery = load_script("docs/make_gallery.py")
    first = make_gallery.FIRST.command
    page = (home() / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert first in page and first in (home() / "README.md").read_text(encoding="utf-8")
    pairs = re.findall(r"^\| (\w+) \| (\w+) \|.*`nstlab run --content \1 --style \2 ", page, re.M)
    contents, styles = make_gallery.CONTENTS.split(","), make_gallery.STYLES.split(",")
    assert pairs == [(content, style) for content in contents for style in styles]


def test_the_commands_of_the_second_sheet_make_its_pictures(load_script, monkeypatch):
    """What stands on the page, typed in the project's folder, is what the sheet shows; all of control is there."""
    make_gallery = load_script("docs/make_gallery.py")
    monkeypatch.chdir(home())
    page = (home() / "docs" / "gallery.md").read_text(encoding="utf-8").partition("## Control")[2]
    typed = [as_typed(command) for command in re.findall(r"\| `(nstlab run .*)` \|", page)]
    shown = [each for row in make_gallery.CONTROL.values() for each in row.values() if isinstance(each, Settings)]
    assert typed == shown
    assert "gallery_control.jpg" in page and (home() / "docs" / "gallery_control.jpg").stat().st_size < 400_000
    used = {name for settings in typed for name in settings.changed()}
    assert {"style_weights", "content_masks", "colour", "k_TV", "padding", "init", "style_loss"} <= used


def as_typed(command: str) -> Settings:
    """The settings of `nstlab run --content C --style S --set NAME=VALUE ...`."""
    program, run, *words = shlex.split(command)
    assert (program, run) == ("nstlab", "run")
    pairs = zip(words[::2], words[1::2], strict=True)
    return Settings.from_text(
        dict(
            value.split("=", 1) if option == "--set" else (option.removeprefix("--"), value) for option, value in pairs
        )
    )


def test_notebooks_use_the_words_of_settings():
    """A parameter that sounds like a setting is one, under the same name."""
    from nstlab.sweeps import notebook_parameters

    own = {"out", "explore", "row", "column", "layers", "channels", "favourite_size", "favourite_iterations"}
    own |= {
        "seeds",
        "strengths",
        "short",
        "rates",
        "stalled_rate",
        "lbfgs_rates",
        "histories",
        "sweep",
        "measure",
        "same",
        "removed",
        "groups",
    }
    for chapter in course.chapters():
        unknown = set(notebook_parameters(chapter.path)) - set(Settings.model_fields) - own
        assert not unknown, f"{chapter.name}: {unknown}"
        kernel = nbformat.read(chapter.path, as_version=4).metadata.kernelspec
        assert kernel.name == "python3", chapter.name
