"""The notebooks as a course: which there are, in order, and what each says of itself at its top."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from nstlab.errors import RequestError
from nstlab.storage import home


@dataclass(frozen=True)
class Chapter:
    """One notebook: number "04", name "04_vanilla_transfer", title, the question it asks, the time it takes."""

    number: str
    name: str
    title: str
    question: str
    time: str
    path: Path


def chapters(folder: str | Path | None = None) -> list[Chapter]:
    """The notebooks of the course that are there, 00 to 99 in order (folder None: the project's notebooks/).

    Raises RequestError for one whose first cell lacks a title, a question or a time.

    >>> [chapter.number for chapter in chapters()][:2]
    ['00', '01']
    """
    folder = Path(folder) if folder else home() / "notebooks"
    return [_chapter(path) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]


def _chapter(path: Path) -> Chapter:
    top = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    title = re.match(r"# (\d\d) · (.+)", top)
    question = re.search(r"\*\*The question:\*\* (.+)", top)
    time = re.search(r"\*\*Time:\*\* (.+)", top)
    if not (title and question and time):
        raise RequestError(f"{path.name}: its first cell must hold a title, **The question:** and **Time:**")
    first = re.split(r"[;.(]| with the | the first time", time[1])[0].strip()
    return Chapter(title[1], path.stem, title[2], question[1], first, path)
