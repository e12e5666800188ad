"""Make what a teacher hands out: the notebooks without answers, and the teacher's edition with them.

    python docs/class/make_class.py                 out/class/student, out/class/teacher
    python docs/class/make_class.py --no-runs       without painting what the notebooks paint

student/   a folder to work in: notebooks without answers, each with an exercise that checks itself; data; the stored
           runs that make every notebook quick; nstlab as a wheel, and how to begin (README.md); and, if `make book`
           was run before, the book without its answers, whose figures move before anything is installed
teacher/   the same notebooks with answers, and how long each takes on this machine (README.md)

The cells of the exercises have nbgrader's metadata; the teacher's notebooks are what `nbgrader generate_assignment`
takes as its source.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from nstlab import course, shipped
from nstlab.errors import RequestError, RunError
from nstlab.runs import prunable, remove
from nstlab.storage import home, write_whole
from nstlab.sweeps.notebook import execute, notebook_parameters
from nstlab.sweeps.page import ANSWERS

sys.path.insert(0, str(Path(__file__).resolve().parent))
from exercises import EXERCISES, Exercise

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # what nbgrader takes away
START_HERE = """# nstlab, for a class

{look}1. Install, in a Python from 3.11: `pip install {wheel}`
2. In this folder: `nstlab lab .`
3. Open `notebooks/00_start_here.ipynb`.

Each notebook ends with an exercise that checks itself: fill in its cell, run the cell below it, and it says "Right.",
or what is missing. What the notebooks paint is stored in `out/`, so that they run in {quick} altogether; with other
parameters they paint anew.
"""


def student_edition(book: nbformat.NotebookNode, number: str) -> nbformat.NotebookNode:
    """A notebook without its answers, with the exercise to fill in."""
    book = copy.deepcopy(book)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = ANSWERS.sub("", cell.source)
    exercise = EXERCISES[number]
    return _with(book, number, exercise, exercise.start)


def teachers_edition(book: nbformat.NotebookNode, number: str) -> nbformat.NotebookNode:
    """A notebook with its answers, and the exercise solved, between the marks that nbgrader looks for."""
    exercise = EXERCISES[number]
    start, solution = (text.splitlines() for text in (exercise.start, exercise.solution))
    given = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(start, solution, strict=False)))
    answer = solution[given:]
    indent = answer[0][: len(answer[0]) - len(answer[0].lstrip())]
    lines = [*solution[:given], indent + BEGIN, *answer, indent + END]
    book = copy.deepcopy(book)
    for place, cell in enumerate(book.cells):
        if cell.cell_type == "markdown" and (found := ANSWERS.search(cell.source)):
            cell.source = ANSWERS.sub("", cell.source)
            answers = new_markdown_cell(f"{BEGIN}\n{found[0].strip()}\n{END}")
            _mark(answers, f"answers-{number}", {"grade": True, "solution": True, "points": 0})
            book.cells.insert(place + 1, answers)
            break
    return _with(book, number, exercise, "\n".join(lines))


def _with(book: nbformat.NotebookNode, number: str, exercise: Exercise, answer: str) -> nbformat.NotebookNode:
    """The notebook with an exercise at its end: the task, the cell of the answer, the check."""
    task = f"### An exercise that checks itself\n\n{exercise.task}"
    checks = f'from nstlab.checks import check\n\ncheck("{number}", {exercise.name})'
    made = [
        (f"task-{number}", new_markdown_cell(task), {"locked": True}),
        (f"answer-{number}", new_code_cell(answer), {"solution": True}),
        (f"check-{number}", new_code_cell(checks), {"grade": True, "locked": True, "points": 1}),
    ]
    for name, cell, marks in made:
        _mark(cell, name, marks)
        book.cells.append(cell)
    return book


def _mark(cell: nbformat.NotebookNode, name: str, marks: dict[str, bool | int]) -> None:
    """Give a cell its name and nbgrader's metadata."""
    cell["id"] = name
    plain = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3}
    cell.metadata["nbgrader"] = plain | {"grade_id": name} | marks


def painted(chapters: list[course.Chapter], out: Path, small: bool) -> dict[str, tuple[float, float]]:
    """Execute every notebook twice, so that its runs are stored: number -> minutes, the first and the second time."""
    times = {}
    if any(chapter.number == "10" for chapter in chapters):  # it reads a sweep
        tiny = ["--set", "size=40", "--set", "iterations=2"] if small else []
        subprocess.run([sys.executable, "-m", "nstlab", "sweep", "smoke", "--out", str(out), *tiny], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for chapter in chapters:
            taken = notebook_parameters(chapter.path)
            values = {"out": str(out)} if "out" in taken else {}
            if small:
                values |= {name: value for name, value in (("size", 48), ("iterations", 2)) if name in taken}
            both = []
            for _ in range(2):
                began = time.perf_counter()
                execute(chapter.path, Path(folder), values)
                both.append((time.perf_counter() - began) / 60)
            times[chapter.number] = tuple(both)
            click.echo(f"{chapter.name}: {both[0]:.1f} minutes, {both[1]:.1f} with stored runs")
    click.echo(f"checkpoints, which nobody needs: {remove(prunable(out, checkpoints=True)) / 1e6:.0f} MB removed")
    return times


def write_editions(chapters: list[course.Chapter], student: Path, teacher: Path) -> None:
    """Both editions of these notebooks, and in the student's folder all else that comes with nstlab."""
    shipped.put(student)
    for folder in (student, teacher):
        (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    for chapter in course.chapters():
        (student / "notebooks" / chapter.path.name).unlink(missing_ok=True)
    for chapter in chapters:
        book = nbformat.read(chapter.path, as_version=4)
        for folder, edition in ((student, student_edition), (teacher, teachers_edition)):
            text = nbformat.writes(edition(book, chapter.number)) + "\n"
            write_whole(folder / "notebooks" / chapter.path.name, text.encode())


def write_words(chapters: list[course.Chapter], times: dict[str, tuple[float, float]], folder: Path) -> None:
    """README.md of both editions."""
    rows = []
    for chapter in chapters:
        first, second = (f"{minutes:.1f} min" for minutes in times[chapter.number]) if times else ("-", "-")
        rows.append(f"| {chapter.number} {chapter.title} | {first} | {second} | {EXERCISES[chapter.number].task} |")
    heads = "| notebook | the first time | with stored runs | its exercise |\n| --- | --- | --- | --- |"
    text = "# The teacher's edition\n\nRunning times on the machine that made this.\n\n" + "\n".join([heads, *rows])
    write_whole(folder / "teacher" / "README.md", f"{text}\n".encode())
    (wheel,) = (path.name for path in (folder / "student").glob("*.whl"))
    quick = f"{sum(second for _, second in times.values()):.0f} minutes" if times else "minutes"
    book = (folder / "student" / "book" / "index.html").is_file()
    look = "To look before you install anything: `book/index.html`, in a browser. Its figures move.\n\n" if book else ""
    words = START_HERE.format(wheel=wheel, quick=quick, look=look)
    write_whole(folder / "student" / "README.md", words.encode())


def add_book(site: Path, student: Path) -> bool:
    """The book, if it was built, without its answers. Returns whether there is one."""
    shutil.rmtree(student / "book", ignore_errors=True)
    if not (site / "index.html").is_file():
        return False
    shutil.copytree(site, student / "book")
    for page in (student / "book").rglob("*.html"):
        page.write_text(ANSWERS.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    return True


def build_wheel(folder: Path) -> None:
    """nstlab as a wheel, for an installation without a clone."""
    for old in folder.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", folder]
    if subprocess.run([*map(str, command), str(home())]).returncode:
        raise click.ClickException("pip could not build the wheel; what it said stands above")
    shutil.rmtree(home() / "build", ignore_errors=True)


@click.command()
@click.option("--folder", default=None, type=click.Path(path_type=Path), help="Where it goes; out/class if none.")
@click.option("--only", default=None, help="Some notebooks only, as 00,01,04.")
@click.option("--no-runs", is_flag=True, help="Do not execute the notebooks: no stored runs, no times.")
@click.option("--small", is_flag=True, help="Execute them with small parameters, for a look.")
def main(folder: Path | None, only: str | None, no_runs: bool, small: bool) -> None:
    """Make the student's and the teacher's edition."""
    folder = (folder or home() / "out" / "class").absolute()
    chapters = [c for c in course.chapters() if c.number in EXERCISES and (not only or c.number in only.split(","))]
    if not chapters:
        raise click.UsageError(f"no notebook is numbered {only}")
    student, teacher = folder / "student", folder / "teacher"
    try:
        write_editions(chapters, student, teacher)
        build_wheel(student)
        if not add_book(home() / "out" / "book" / "site", student):
            click.echo("no book is built: `make book` first, and the students can look before they install")
        times = {} if no_runs else painted(chapters, student / "out", small)
    except (RequestError, RunError) as error:
        raise click.ClickException(str(error)) from None
    write_words(chapters, times, folder)
    click.echo(f"hand out {student}")
    click.echo(f"keep     {teacher}")


if __name__ == "__main__":
    main()
