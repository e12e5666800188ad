"""nstlab from a wheel: the notebooks and pictures come along, and `nstlab lab` puts them into a folder to work in."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nstlab import shipped
from nstlab.errors import RequestError
from nstlab.storage import MARK_OF_A_FOLDER, home, out_folder, shipped_files

CODE = (".py", ".js", ".css")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs nstlab in a folder, as installed from a wheel; a project around it is not used."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    source = folder / "source"  # setuptools builds where the sources are
    made_of = ["setup.py", "pyproject.toml", "README.md", "LICENSE", *shipped_files(home())]
    made_of += [path.relative_to(home()) for path in (home() / "nstlab").rglob("*") if path.suffix in CODE]
    for name in made_of:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home() / name, source / name)
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)

    def run(where: Path, *words: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "NSTLAB_HOME"}
        environment["PYTHONPATH"] = str(folder / "site")
        command = [sys.executable, "-m", "nstlab", *words]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.wheel = wheel
    return run


def test_a_wheel_has_the_notebooks_and_pictures_and_no_more(installed):
    names = zipfile.ZipFile(installed.wheel).namelist()
    inside = {name.removeprefix("nstlab/shipped/") for name in names if name.startswith("nstlab/shipped/")}
    assert inside == set(shipped_files(home()))
    assert {"notebooks/04_vanilla_transfer.ipynb", "notebooks/sweeps/smoke.yaml", "data/catalogue.csv"} <= inside
    assert installed.wheel.stat().st_size < 12e6 and not any("test" in name.split("/")[0] for name in names)


def test_a_run_anywhere_and_a_folder_to_work_in(installed, tmp_path):
    small = ("--set", "size=40", "--set", "iterations=1")
    said = installed(tmp_path, "run", "--style", "swirl", *small)
    assert str(tmp_path / "out") in said and list((tmp_path / "out").glob("astronaut-swirl-*/result.png"))
    folder = tmp_path / "nstlab"
    assert f"{folder}: {len(shipped_files(home()))} new" in installed(tmp_path, "lab", "--files-only")
    said = installed(folder / "notebooks", "run", *small, "--notebook", "04_vanilla_transfer.ipynb")
    assert str(folder / "out") in said and list((folder / "out").glob("astronaut-swirl-*/notebook.ipynb"))
    assert "up to date" in installed(folder / "out", "lab", "--files-only")


def test_what_was_changed_in_a_folder_is_left_alone(tmp_path):
    (tmp_path / "notebooks").mkdir()
    mine = tmp_path / "notebooks" / "glossary.md"
    mine.write_text("mine")
    first = shipped.put(tmp_path)
    assert first.kept == ["notebooks/glossary.md"] and not first.updated and len(first.new) > 60
    assert mine.read_text() == "mine" and (tmp_path / "out").is_dir()
    again = shipped.put(tmp_path)
    assert (again.new, again.updated, again.kept) == ([], [], first.kept)
    mine.unlink()
    assert shipped.put(tmp_path).new == ["notebooks/glossary.md"]


def test_what_was_not_changed_is_brought_up_to_date(tmp_path):
    shipped.put(tmp_path)
    mark, page = tmp_path / MARK_OF_A_FOLDER, tmp_path / "notebooks" / "glossary.md"
    content, new = json.loads(mark.read_text()), page.read_bytes()
    page.write_text("as an older nstlab had it")
    content["files"]["notebooks/glossary.md"] = hashlib.sha256(page.read_bytes()).hexdigest()
    mark.write_text(json.dumps(content))
    assert shipped.put(tmp_path).updated == ["notebooks/glossary.md"] and page.read_bytes() == new


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"files": 3}'])
def test_a_damaged_record_loses_nothing(tmp_path, damage):
    shipped.put(tmp_path)
    page = tmp_path / "notebooks" / "glossary.md"
    page.write_text("mine")
    (tmp_path / MARK_OF_A_FOLDER).write_text(damage)
    assert shipped.put(tmp_path).kept == ["notebooks/glossary.md"] and page.read_text() == "mine"


def test_folders_that_cannot_be_one(tmp_path):
    with pytest.raises(RequestError, match="copy of nstlab's sources"):
        shipped.put(home())
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        shipped.put(tmp_path / "file")


def test_home_is_the_folder_that_the_work_is_in(tmp_path, monkeypatch):
    clone = home()
    shipped.put(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work" / "notebooks")
    assert home() == tmp_path / "work" and out_folder() == tmp_path / "work" / "out"
    monkeypatch.chdir(tmp_path)
    assert home() == clone
