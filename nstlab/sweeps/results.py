"""notebooks/results/: small tables and pictures of sweeps for notebooks to read, so that no reader has to wait.

<name>.csv   one row per point: what varies, the losses, the evaluation, the cost, the run's id (which stands for its
             settings and the bytes of its pictures and weights); no times of day, no paths. With `store_at: [20, 200]`
             in the sweep's file, one row for each of these iterations of each point
<name>.jpg   each row's picture, in the table's order, row by row, in a grid of equal tiles (each at its top left)
<name>.history.csv  with `store_at`: the losses of every iteration of each run
<name>.yaml  the sweep as it was run: with which versions, how many threads, the SHA-256 of its notebook
`nstlab sweep <name> --threads 1 --store` writes them all. Tables from before December 2026 have no ids and no .yaml.
"""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from nstlab.errors import RequestError
from nstlab.images import load_image, tiled
from nstlab.storage import home, read_regular, write_whole
from nstlab.sweeps.outcome import Outcome

COLUMNS = 7  # tiles per row
QUALITY = 90  # of the JPEG


def _folder() -> Path:
    return home() / "notebooks" / "results"


def store_results(outcome: Outcome, folder: Path | None = None) -> list[Path]:
    """Write a finished sweep's table, pictures and making to `folder` (None: notebooks/results/); returns the paths.

    Numbers have six significant digits. Only `seconds` depends on the machine, apart from rounding. Raises
    RequestError if a point has no picture.
    """
    folder = folder or _folder()
    at = outcome.store_at
    table, images = _on_the_way(outcome) if at else (outcome.table, outcome.pictures())
    if any(image is None for image in images):
        raise RequestError(f"{outcome.name} is not complete: `nstlab sweep {outcome.name}` runs what is missing")
    wanted = [*outcome.axes, *outcome.replicates, *(["iteration"] if at else [])]
    wanted += [name for name in table if name.startswith(("loss_", "eval_", "network_"))]
    wanted += ["seconds"] if at or "eval_content_ssim" in table else ["ssim_content", "seconds"]
    wanted += [name for name in ("iterations", "size", "content", "style", "k_S") if name not in wanted]
    text = io.StringIO()
    shapes = [image.shape[2:] for image in images]
    if len(set(shapes)) > 1:
        table = table.assign(height=[height for height, _ in shapes], width=[width for _, width in shapes])
        wanted += ["height", "width"]
    table[[*wanted, "run"]].to_csv(text, index=False, float_format="%.6g", lineterminator="\n")
    buffer = io.BytesIO()
    Image.fromarray(tiled(images, COLUMNS)).save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    parts = {"csv": text.getvalue().encode(), "jpg": buffer.getvalue()}
    parts["yaml"] = read_regular(outcome.folder / "sweep.yaml")
    if at:
        parts["history.csv"] = _histories(outcome).encode()
    for ending, data in parts.items():
        write_whole(folder / f"{outcome.name}.{ending}", data)
    return [folder / f"{outcome.name}.{ending}" for ending in parts]


def _on_the_way(outcome: Outcome) -> tuple[pd.DataFrame, list[torch.Tensor]]:
    """The rows of a sweep's table at each of the iterations that it stores, with the losses and the picture there.

    Raises RequestError for an iteration that no frame was stored at.
    """
    rows, images = [], []
    for _, row in outcome.table.iterrows():
        run = outcome.run(row)
        history = run.history.set_index("iteration")
        losses = history.drop(columns="seconds").add_prefix("loss_")
        for iteration in outcome.store_at:
            images.append(run.frame(iteration))
            there = {"iteration": iteration, "seconds": history.loc[iteration, "seconds"]}
            rows.append(row.to_dict() | losses.loc[iteration].to_dict() | there)
    return pd.DataFrame(rows), images


def _histories(outcome: Outcome) -> str:
    """The losses of every iteration of every run as CSV: run, iteration, total, content, style."""
    runs = [outcome.run(row) for _, row in outcome.table.iterrows()]
    histories = [run.history[["iteration", "total", "content", "style"]].assign(run=run.id) for run in runs]
    table = pd.concat(histories)[["run", "iteration", "total", "content", "style"]]
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def stored_history(name: str) -> pd.DataFrame:
    """The losses of every iteration of a stored sweep's runs: run (its id), iteration, total, content, style.

    Raises RequestError if there are none.
    """
    path = _folder() / f"{name}.history.csv"
    if not path.is_file():
        raise RequestError(f"no losses of {name} at {path}: `nstlab sweep {name} --store` of one with `store_at:`")
    return pd.read_csv(path)


def stored_results(name: str) -> tuple[pd.DataFrame, list[torch.Tensor]]:
    """The stored table of a sweep and each row's picture, (1, 3, H, W) in [0, 1], decoded from JPEG.

    Raises RequestError if there is none.
    """
    folder = _folder()
    if not (folder / f"{name}.csv").is_file():
        raise RequestError(f"no results of {name} in {folder}: `nstlab sweep {name} --threads 1 --store` makes them")
    table = pd.read_csv(folder / f"{name}.csv")
    sheet = load_image(folder / f"{name}.jpg", size=None)
    side = sheet.shape[3] // COLUMNS
    height = sheet.shape[2] // -(-len(table) // COLUMNS)
    heights = table["height"] if "height" in table else [height] * len(table)
    widths = table["width"] if "width" in table else [side] * len(table)
    corners = [(k // COLUMNS * height, k % COLUMNS * side) for k in range(len(table))]
    tiles = zip(corners, heights, widths, strict=True)
    return table, [sheet[:, :, top : top + h, left : left + w] for (top, left), h, w in tiles]


def technique(row: pd.Series) -> str:
    """What was done to the network in a table's row: "contribution, refit", "whole", "untrained".

    >>> technique(pd.Series({"reduction": "weight_sharing", "refit": False, "weights": "original-8bit"}))
    'weight sharing'
    """
    if row.get("weights") == "random":
        return "untrained"
    if pd.isna(row["reduction"]):
        return "whole"
    return row["reduction"].replace("_", " ") + (", refit" if row.get("refit") else "")


def strength(row: pd.Series) -> str:
    """How much of it was done: "50% fewer", "2 bits", "4 bits, 80% pruned"; empty for the whole network.

    >>> strength(pd.Series({"amount": 0.0, "bits": 4.0, "sparsity": 0.8}))
    '4 bits, 80% pruned'
    """
    words = []
    if row.get("amount", 0) > 0:
        words.append(f"{row['amount']:.0%} fewer")
    if pd.notna(row.get("angle")):
        words.append(f"under {row['angle']:g}°")
    if pd.notna(row.get("bits")):
        words.append(f"{row['bits']:g} bit" + ("s" if row["bits"] > 1 else ""))
    if row.get("sparsity", 0) > 0:
        words.append(f"{row['sparsity']:.0%} pruned")
    if row.get("gradient_kept", 1) < 1:
        words.append(f"{row['gradient_kept']:.0%} of gradient")
    return ", ".join(words)
