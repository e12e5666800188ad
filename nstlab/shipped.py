"""A folder to work in, with the notebooks, sweeps, stored results and sample pictures that come with nstlab.

It is then the `home` of everything that happens in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from nstlab.errors import RequestError
from nstlab.storage import (
    MARK_OF_A_FOLDER,
    MOST_JSON,
    parse_json,
    read_regular,
    sha256_of,
    shipped_files,
    shipped_home,
    write_whole,
)


@dataclass
class Put:
    """What `put` did: the files that are new in the folder, that it updated, and that it left since somebody changed
    them, as paths from the folder."""

    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def put(folder: Path) -> Put:
    """Copy what comes with nstlab to a folder; where it is already, bring it up to date.

    A file that was changed there, or was there before, is left as it is, whatever is new in it. Raises RequestError
    for a folder that is a clone or a file, OSError for one that cannot be written.
    """
    folder = folder.absolute()
    source = shipped_home()
    if folder == source or (folder / "nstlab" / "shipped.py").is_file():
        raise RequestError(f"{folder} is a copy of nstlab's sources: it has its notebooks already")
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file: give the name of a folder")
    mark, done = folder / MARK_OF_A_FOLDER, Put()
    ours = _recorded(mark)
    for name in shipped_files(source):
        data, path = (source / name).read_bytes(), folder / name
        digest = hashlib.sha256(data).hexdigest()
        there = sha256_of(path) if path.is_file() else None
        if there is not None and there != digest and there != ours.get(name):
            done.kept.append(name)
            continue
        if there != digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
            (done.new if there is None else done.updated).append(name)
        ours[name] = digest
    (folder / "out").mkdir(exist_ok=True)
    content = {"nstlab": version("nstlab"), "files": ours}
    write_whole(mark, (json.dumps(content, indent=1) + "\n").encode())
    return done


def _recorded(mark: Path) -> dict[str, str]:
    """File -> SHA-256 of what was put into a folder; empty if that says nothing readable, so that nothing is ours."""
    try:
        files = parse_json(read_regular(mark, MOST_JSON))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
