"""The student's and the teacher's edition: no answer in the one, and checks that know right from wrong."""

import sys

import nbformat
import pytest

from nstlab import checks, course
from nstlab.checks import CHECKS, NotYet, check
from nstlab.errors import RequestError
from nstlab.storage import home

sys.path.insert(0, str(home() / "docs" / "class"))
from exercises import EXERCISES

CHAPTERS = {chapter.number: chapter for chapter in course.chapters()}


@pytest.fixture(scope="module")
def make_class(load_script):
    """docs/class/make_class.py as a module."""
    return load_script("docs/class/make_class.py")


def book_of(number):
    return nbformat.read(CHAPTERS[number].path, as_version=4)


def answered(number, source):
    """What a cell leaves under the name that is checked, run after the notebook's own imports."""
    names = {}
    set_up = next(cell for cell in book_of(number).cells if cell.cell_type == "code")
    exec(set_up.source, names)
    exec(source, names)
    return names[EXERCISES[number].name]


def test_every_notebook_has_an_exercise():
    assert list(EXERCISES) == sorted(CHECKS) == list(CHAPTERS)


@pytest.mark.parametrize("number", EXERCISES)
def test_a_check_knows_right_from_wrong(number, capsys):
    exercise = EXERCISES[number]
    check(number, answered(number, exercise.solution))
    assert capsys.readouterr().out == "Right.\n"
    with pytest.raises(NotYet, match="there is no answer yet"):
        check(number, answered(number, exercise.start))
    with pytest.raises(NotYet) as refused:
        check(number, answered(number, exercise.wrong))
    assert "no answer" not in str(refused.value)
    last = exercise.solution.splitlines()[-1].strip().removeprefix("return ")
    assert last not in str(refused.value)


def test_what_an_answer_raises_is_told():
    with pytest.raises(NotYet, match="it stops with ZeroDivisionError: division by zero"):
        check("04", lambda F: 1 / 0)
    assert NotYet("so")._render_traceback_() == ["Not yet: so"]
    with pytest.raises(RequestError, match="unknown exercise '99'"):
        check("99", 1)
    assert not [name for name in vars(checks) if name.startswith("ANSWER")]


@pytest.mark.parametrize("number", EXERCISES)
def test_the_students_edition_has_no_answer(make_class, number):
    exercise, book = EXERCISES[number], book_of(number)
    student = make_class.student_edition(book, number)
    text = "\n".join(cell.source for cell in student.cells)
    assert "Answers</summary>" not in text and exercise.solution not in text and "BEGIN SOLUTION" not in text
    assert "## Exercises" in text and exercise.task in text and f'check("{number}", {exercise.name})' in text
    assert "Answers</summary>" in "\n".join(cell.source for cell in book.cells)  # the notebook itself is as it was
    nbformat.validate(student)


@pytest.mark.parametrize("number", EXERCISES)
def test_the_teachers_edition_is_a_source_for_nbgrader(make_class, number):
    teacher = make_class.teachers_edition(book_of(number), number)
    task, answer, test = (cell.metadata["nbgrader"] for cell in teacher.cells[-3:])
    assert all(marks["schema_version"] == 3 for marks in (task, answer, test))
    assert answer["solution"] and not answer["locked"] and not answer["grade"]
    assert test["grade"] and test["locked"] and test["points"] == 1 and not test["solution"]
    source = teacher.cells[-2].source
    lines = [line.strip() for line in source.splitlines()]
    assert lines[-1] == "### END SOLUTION" and lines.count("### BEGIN SOLUTION") == 1
    if "def " in source:  # nbgrader leaves its head to the students
        assert lines[0].startswith("def ") and lines[2] == "### BEGIN SOLUTION"
    check(number, answered(number, source))
    (answers,) = (cell for cell in teacher.cells if "Answers</summary>" in cell.source)
    assert answers.source.startswith("### BEGIN SOLUTION\n<details>") and answers.metadata["nbgrader"]["solution"]
    nbformat.validate(teacher)


def test_the_book_comes_along_without_its_answers(make_class, tmp_path):
    assert not make_class.add_book(tmp_path / "nowhere", tmp_path / "student")
    site = tmp_path / "site"
    site.mkdir()
    page = "<p>kept</p><details>\n<summary>Answers</summary><ol><li>42</li></ol></details><p>kept, too</p>"
    (site / "index.html").write_text(page)
    (site / "picture.jpg").write_bytes(b"x")
    assert make_class.add_book(site, tmp_path / "student")
    assert (tmp_path / "student" / "book" / "index.html").read_text() == "<p>kept</p><p>kept, too</p>"
    assert (tmp_path / "student" / "book" / "picture.jpg").is_file()


def test_a_class_is_one_folder(make_class, tmp_path):
    """A notebook, executed small; the student's folder is one to work in, with runs and a wheel."""
    make_class.main(["--folder", str(tmp_path), "--only", "04", "--small"], standalone_mode=False)
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    names = [CHAPTERS[number].path.name for number in ("04",)]
    for folder in (student, teacher):
        assert sorted(path.name for path in (folder / "notebooks").glob("*.ipynb")) == names
    assert (student / "data" / "catalogue.csv").is_file() and len(list(student.glob("*.whl"))) == 1
    assert list((student / "out").glob("*/result.png")) and not list((student / "out").glob("*/checkpoint.pt"))
    said = (teacher / "README.md").read_text()
    assert "| 04 Vanilla style transfer |" in said and " min |" in said and EXERCISES["04"].task in said
    assert "nstlab lab ." in (student / "README.md").read_text() and not (home() / "build").exists()
