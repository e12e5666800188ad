"""Sweeps' files, values given with --set, and notebooks, as nobody should write them."""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import yaml

from nstlab.settings import Settings
from nstlab.storage import home
from nstlab.sweeps import Faults, make_plan, notebook_parameters

from .harness import JUNK, LONGEST_LINE, Fault, Kind, junk, mutated, one_command

GOOD = {
    "notebook": "04_vanilla_transfer.ipynb",
    "fixed": {"content": "astronaut", "style": "swirl", "size": 48, "iterations": 3},
    "grid": {"k_S": [1, 10.0], "init": ["content", "white"]},
}
ODD = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n"
    "d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\n"
    "f: &f [*e, *e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f, *f, *f]\ngrid: {k_S: *g}\n",
    "grid: &g {k_S: [*g]}\nnotebook: 04_vanilla_transfer.ipynb\n",
    "fixed: &f\n  a: *f\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {k_S: [2026-13-45]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {k_S: [2026-11-25]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {k_S: [!!python/object/apply:os.system ['touch mark']]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {k_S: [!!binary 'x']}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {seed: [" + "9" * 6000 + "]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {? [a, b] : [1]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {<<: [1]}\n",
    "[" * 3000,
    "a: " * 500,
    "- " * 5000,
    "{" * 200 + "}" * 200,
    "notebook: ../../../../etc/passwd\ngrid: {k_S: [1]}\n",
    "notebook: /dev/zero\ngrid: {k_S: [1]}\n",
    "notebook: 04_vanilla_transfer.ipynb\nname: '" + "x" * 300 + "'\ngrid: {k_S: [1]}\n",
    "notebook: 04_vanilla_transfer.ipynb\nname: '<img src=x onerror=alert(1)>'\ngrid: {k_S: [1]}\n",
    'notebook: 04_vanilla_transfer.ipynb\nname: "\\0"\ngrid: {k_S: [1]}\n',
    'notebook: "\\uD800.ipynb"\ngrid: {k_S: [1]}\n',
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {k_S: [1e999999999]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {seed: [0x" + "f" * 5000 + "]}\n",
    "notebook: 04_vanilla_transfer.ipynb\ngrid: {seed: [1:2:3:4:5:6:7:8:9]}\n",
    "%YAML 9.9\n---\na: 1\n",
    "\ufeffnotebook: 04_vanilla_transfer.ipynb\n",
    "--- a\n--- b\n",
    "notebook: 04_vanilla_transfer.ipynb\npoints: [{}, {}, {}]\n",
)


ODD_LINES = (
    "x = open('mark', 'w')", "x = __import__('os').system('touch mark')", "x: int", "x: int = 3", "a, b = 1, 2",
    "a = b = 3", "x = 2 ** 10 ** 10", "x = 'a' * 10 ** 10", "x = [0] * 10 ** 9", "x = (1, (2, 3))", "x = 1 if 1 else 2",
    "x = y", "x += 1", "x = lambda: 1", "x = f'{open}'", "%matplotlib inline", "x = " + "(" * 300, "x = 1e400",
    "x = -" + "-" * 3000 + "1", "def f(): pass", "import os", "x = {1: 2}", "x = 10 // 0", "x = 'a' % 3", "\0",
    "x = '\ud800'",
)  # fmt: skip


def attempt(_: Any, chance: random.Random, number: int, folder: Path) -> None:
    path = folder / "mine.yaml"
    what = chance.random()
    if what < 0.25:
        path.write_text(chance.choice(ODD), encoding="utf-8")
    else:
        content = copy.deepcopy(GOOD)
        for _ in range(chance.choice((1, 1, 2, 3))):
            place = chance.choice((content, content["fixed"], content["grid"]))
            names = [*place, *chance.sample(list(Settings.model_fields), 3), "name", "points", "evaluate", "x"]
            value = junk(chance)
            place[chance.choice(names)] = [value, junk(chance)] if place is content["grid"] else value
            if not isinstance(content["fixed"], dict) or not isinstance(content["grid"], dict):
                break
        try:
            text = yaml.safe_dump(content, allow_unicode=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        except (ValueError, yaml.YAMLError):
            return
        path.write_bytes(mutated(text, chance) if what < 0.6 else text)
    given = {}
    if chance.random() < 0.3:
        given = {chance.choice([*Settings.model_fields, "explore", "x"]): str(chance.choice(JUNK))}
    try:
        make_plan(path, given, folder / "out")
    except Faults as faults:
        if any("\n" in line or len(line) > LONGEST_LINE for line in faults.lines):
            raise Fault(f"not one line each: {faults.lines}") from None
    if (folder / "out").exists():
        raise Fault("planning left something behind")


def attempt_set(_: Any, chance: random.Random, number: int, folder: Path) -> None:
    """--set NAME=VALUE of `nstlab run`, which must be refused or be a run of no iterations that is never begun."""
    names = [*Settings.model_fields, "style_weight", "content_weight", "", "a b", "self", "\x1b"]
    words = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        value = str(junk(chance)).replace("\0", "")
        words += ["--set", f"{chance.choice(names)}={value}".encode("utf-8", "replace").decode()]
    code, _, _ = one_command("run", *words, "--set", "weights=nothing.pth", "--out", str(folder / "out"))
    if code != 2:
        raise Fault(f"exit code {code} for weights that are not there")


def prepare_notebooks(folder: Path) -> dict:
    return json.loads((home() / "notebooks" / "04_vanilla_transfer.ipynb").read_text())


def attempt_notebook(whole: dict, chance: random.Random, number: int, folder: Path) -> None:
    """A notebook's parameters cell: read as Python would, or refused; never run."""
    book = copy.deepcopy(whole)
    (cell,) = [cell for cell in book["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    lines = [*cell["source"], "\n"]
    for _ in range(chance.choice((1, 2))):
        lines.insert(chance.randrange(len(lines)), chance.choice(ODD_LINES) + "\n")
    cell["source"] = "".join(lines) if chance.random() < 0.5 else lines
    if chance.random() < 0.1:
        cell["metadata"] = junk(chance)
    if chance.random() < 0.05:
        book["cells"] = junk(chance)
    data = json.dumps(book).encode()
    (folder / "mine.ipynb").write_bytes(mutated(data, chance) if chance.random() < 0.3 else data)
    found = notebook_parameters(folder / "mine.ipynb")
    json.dumps(found)


def nothing(folder: Path) -> None:
    shutil.rmtree(folder / "out", ignore_errors=True)


KINDS = (
    Kind("sweep files", nothing, attempt),
    Kind("--set", nothing, attempt_set),
    Kind("notebooks", prepare_notebooks, attempt_notebook),
)
