"""The folder of a run: its identity, and where its files are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nstlab import own
from nstlab.decoding import profile_of, shape_of
from nstlab.images import picture_files
from nstlab.network import network_read_as, network_sha256
from nstlab.optimise import with_own_layers, with_tile
from nstlab.runs.manifest import read_manifest, run_id, write_manifest
from nstlab.settings import Settings
from nstlab.storage import is_regular, out_folder, sha256_of

FRAME = re.compile(r"(\d{6}|[1-9]\d{6,8})\.png")


class RunFolder:
    """A run's identity and folder; `Run` is the class to use.

    settings, id, sha256 of pictures and weights, read_as (see `Run`), folder.
    """

    settings: Settings
    id: str
    sha256: dict[str, str]
    read_as: dict[str, str]
    folder: Path

    def __init__(self, settings: Settings, out: str | Path | None = None) -> None:
        settings = with_own_layers(settings)
        pictures = picture_files(settings)
        if settings.tile == "auto":
            settings = with_tile(settings, *shape_of(pictures["content"])[::-1])
        self.settings = settings
        read_as = {role: profile_of(path) for role, path in pictures.items()}
        read_as["weights"] = network_read_as(settings.network, settings.weights, settings.weights_format)
        self.read_as = {role: value for role, value in read_as.items() if value is not None}
        self.sha256 = {role: sha256_of(path) for role, path in pictures.items()}
        self.sha256 |= {name: own.sha256(reference) for name, reference in settings.code.items()}
        if "network" not in settings.code:  # such a network makes its own weights
            self.sha256["weights"] = network_sha256(settings.network, settings.weights)
        self.id = run_id(settings, self.sha256, self.read_as)
        styles = "_".join(path.stem for role, path in pictures.items() if re.fullmatch(r"style(_\d+)?", role))
        self.folder = out_folder(out) / f"{_slug(pictures['content'].stem)}-{_slug(styles)}-{self.id}"

    @property
    def manifest(self) -> dict[str, Any]:
        """run.json as a dict, empty if it is missing or damaged. See `read_manifest`."""
        return read_manifest(self.folder / "run.json")

    @property
    def code(self) -> dict[str, str]:
        """The SHA-256 of the user's own files that the settings name, by setting."""
        return {name: self.sha256[name] for name in self.settings.code if name in self.sha256}

    @property
    def stored(self) -> int | None:
        """The stored iteration from which the run can resume; may be beyond settings.iterations; None if none."""
        return self.manifest.get("iteration")

    def describe(
        self, status: str, iteration: int | None, network: dict[str, Any] | None = None, batch: int = 1
    ) -> None:
        """Write run.json (see `write_manifest`)."""
        identity = {"id": self.id, "sha256": self.sha256, "read_as": self.read_as}
        write_manifest(self.folder / "run.json", identity, self.settings, status, iteration, network, batch)

    def stored_frames(self) -> list[int]:
        """The iterations in frames/, including those beyond settings.iterations. Other files there are ignored."""
        named = [path for path in (self.folder / "frames").glob("*.png") if FRAME.fullmatch(path.name)]
        return sorted(int(path.stem) for path in named if is_regular(path))

    def frame_path(self, iteration: int) -> Path:
        """Where the frame of an iteration is or would be."""
        return self.folder / "frames" / f"{iteration:06d}.png"


def stored_runs(out: str | Path | None = None) -> list[Path]:
    """The folders of runs in `out` (None: the project's out/), in alphabetical order."""
    return sorted(path.parent for path in out_folder(out).glob("*/run.json"))


def _slug(stem: str) -> str:
    """A picture's name as part of a folder's name; it cannot lead out of out/."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_")[:40] or "picture"
