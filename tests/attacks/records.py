"""What a run has stored, and the settings inside a picture, with anything in the place of anything."""

from __future__ import annotations

import copy
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin

import nstlab as lab
from nstlab.runs import stored_runs

from .harness import Kind, junk, mutated, one_command
from .kills import SETTINGS, Stage, advance
from .kills import prepare as prepare_run


@dataclass
class Records:
    """A run that is complete, to be damaged."""

    stage: Stage
    out: Path
    folder: Path


def prepare(folder: Path) -> Records:
    stage = prepare_run(folder)
    run = lab.Run(stage.settings, folder / "straight")
    return Records(stage, folder / "straight", run.folder)


def changed(value: Any, chance: random.Random) -> Any:
    """JSON with something else in one or a few places, or of another shape altogether."""
    if chance.random() < 0.08:
        return junk(chance)
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = value
        while isinstance(place, (dict, list)) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = chance.choice(keys)
            if isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.7:
                place = place[key]
                continue
            what = chance.random()
            if what < 0.7:
                place[key] = junk(chance)
            elif what < 0.85:
                del place[key]
            elif isinstance(place, dict):
                place[str(junk(chance))] = junk(chance)
            break
    return value


def as_json(value: Any, chance: random.Random) -> bytes:
    """JSON text, now and then nested deeply, doubled, with a mark in front, or no JSON at all."""
    what = chance.random()
    if what < 0.03:
        return b"[" * 100_000
    if what < 0.06:
        return b'{"settings":' * 5000 + b"1" + b"}" * 5000
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    if what < 0.2:
        return mutated(text, chance)
    return (b"\xef\xbb\xbf" if what < 0.25 else b"") + text


def attempt_manifest(records: Records, chance: random.Random, number: int, folder: Path) -> None:
    """run.json, through everything that reads it."""
    run = _copied(records, folder)
    stored = json.loads((run / "run.json").read_text())
    (run / "run.json").write_bytes(as_json(changed(stored, chance), chance))
    one_command("runs", "--out", str(folder / "out"))
    one_command("show", str(run))
    one_command("prune", "--out", str(folder / "out"), "--yes")
    for stored_run in stored_runs(folder / "out"):
        try:
            found = lab.Run.open(stored_run)
            found.complete, found.frames, found.iteration, repr(found)
        except lab.RequestError:
            pass
    if chance.random() < 0.3:
        advance(records.stage, folder / "out")


def attempt_run(records: Records, chance: random.Random, number: int, folder: Path) -> None:
    """history.csv, the checkpoint and the pictures: looked at, and gone on from."""
    run = _copied(records, folder)
    names = ("history.csv", "checkpoint.pt", "result.png", "frames/000002.png", "notebook.json")
    name = chance.choice(names)
    if name == "notebook.json":
        (run / name).write_bytes(
            as_json(changed({"notebook": "04.ipynb", "parameters": {}, "iterations": 4}, chance), chance)
        )
    elif name == "history.csv" and chance.random() < 0.6:
        lines = [line.split(",") for line in (run / name).read_text().splitlines()]
        row, column = chance.randrange(len(lines)), chance.randrange(len(lines[0]))
        lines[row][column] = str(junk(chance)).replace("\ud800", "")
        if chance.random() < 0.2:
            del lines[row][column]
        (run / name).write_text("\n".join(map(",".join, lines)) + "\n")
    else:
        (run / name).write_bytes(mutated((run / name).read_bytes(), chance))
    one_command("runs", "--out", str(folder / "out"))
    found = lab.Run.open(run)
    for look in (lambda: found.history, lambda: found.result, lambda: found.frame(2), lambda: found.complete):
        try:
            look()
        except lab.RequestError as error:
            if "\n" in str(error):
                raise
    settings = records.stage.settings
    records.stage.settings = settings.with_(iterations=5)
    try:
        advance(records.stage, folder / "out")
    finally:
        records.stage.settings = settings


def attempt_settings(records: Records, chance: random.Random, number: int, folder: Path) -> None:
    """Settings inside a PNG, through `show` and `run --from`."""
    stored = lab.Settings(**SETTINGS).model_dump(mode="json")
    text = as_json(changed(stored, chance), chance).decode("utf-8", "replace")
    if chance.random() < 0.1:
        text = json.dumps(stored | {"content": "/tmp/\x1b[2J\nnstlab run --content forged"})
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("nstlab", text) if chance.random() < 0.2 else chunks.add_text(
        "nstlab", text, zip=chance.random() < 0.2
    )
    Image.new("RGB", (40, 40)).save(folder / "a.png", pnginfo=chunks)
    if chance.random() < 0.2:
        (folder / "a.png").write_bytes(mutated((folder / "a.png").read_bytes(), chance))
    one_command("show", str(folder / "a.png"))
    iterations = ["--set", "iterations=0", "--set", "size=40", "--set", "weights=nothing.pth"]
    one_command("run", "--from", str(folder / "a.png"), *iterations, "--out", str(folder / "out"))


def _copied(records: Records, folder: Path) -> Path:
    shutil.copytree(records.out, folder / "out")
    return folder / "out" / records.folder.name


KINDS = (
    Kind("run.json", prepare, attempt_manifest),
    Kind("stored runs", prepare, attempt_run),
    Kind("settings in PNGs", prepare, attempt_settings),
)

torch.manual_seed(0)
