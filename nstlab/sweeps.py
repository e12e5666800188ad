"""Notebooks run by papermill with other parameters."""

from __future__ import annotations

import ast
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nstlab.runs import Run
from nstlab.settings import RequestError, RunError, Settings, unknown
from nstlab.storage import home

if TYPE_CHECKING:
    from traitlets.config import Config


def notebook_parameters(notebook: Path) -> dict[str, Any]:
    """Name -> default of a notebook's parameters cell. Raises RequestError if it has none."""
    import papermill

    if not notebook.is_file():
        known = sorted(path.name for path in (home() / "notebooks").glob("*.ipynb"))
        raise unknown("notebook", notebook.name, known)
    found = papermill.inspect_notebook(str(notebook))
    if not found:
        raise RequestError(f"{notebook} has no cell tagged `parameters`")
    return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}


def run_notebook(
    notebook: str | Path, values: dict[str, Any], out: str | Path | None = None, progress: bool = True
) -> Run:
    """Execute a notebook of one run with papermill; its executed copy goes into the run's folder.

    notebook: a path, relative to notebooks/; values: parameters that differ from the notebook's own; out: the
    folder of runs. Returns the run. Raises RequestError before anything runs (a name that is not among the
    notebook's parameters, a value that Settings refuses), RunError if a cell fails.
    """
    notebook = home() / "notebooks" / notebook
    parameters = notebook_parameters(notebook)
    for name in values:
        if name not in parameters:
            raise unknown(f"parameter of {notebook.name}", name, parameters)
    merged = parameters | values
    settings = Settings(**{name: value for name, value in merged.items() if name in Settings.model_fields})
    run = Run(settings, out)
    plain = settings.model_dump(mode="json")  # lists, not tuples; absolute paths
    given = {name: plain.get(name, value) for name, value in values.items()}
    if out is not None:
        given["out"] = str(Path(out).absolute())
    with _followed(run, progress):
        _execute(notebook, run.folder / "notebook.ipynb", given)
    return run


def _execute(notebook: Path, copy: Path, given: dict[str, Any]) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    beside = copy.with_name(".notebook.part.ipynb")
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nstlab-") as sockets:
        try:
            papermill.execute_notebook(
                str(notebook),
                str(beside),
                given,
                kernel_name="python3",
                progress_bar=False,
                coalesce_streams=True,
                resources={"metadata": {"path": str(notebook.parent)}},
                config=_kernel_config(sockets),
            )
        except PapermillExecutionError as error:
            os.replace(beside, copy)
            line = f"{error.ename}: {error.evalue}".splitlines()[0]
            raise RunError(f"{notebook.name} stopped at cell {error.cell_index + 1}: {line}; see {copy}") from None
    os.replace(beside, copy)


def _kernel_config(folder: str) -> Config:
    """Talk to the kernel through sockets in a folder of our own, where there are such, and not over TCP."""
    from traitlets.config import Config

    return Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}} if os.name == "posix" else {})


class _followed:
    """While a notebook computes a run elsewhere: a bar that follows its history."""

    def __init__(self, run: Run, progress: bool) -> None:
        self.run, self.progress, self.over = run, progress, threading.Event()

    def __enter__(self) -> None:
        if self.progress:
            self.thread = threading.Thread(target=self._follow, daemon=True)
            self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        if self.progress:
            self.thread.join()

    def _follow(self) -> None:
        wanted = self.run.settings.iterations
        with tqdm(total=wanted, unit="it", desc="starting the kernel", mininterval=0.5) as bar:
            while not self.over.wait(0.5):
                try:
                    reached = min(max(len(self.run.history) - 1, 0), wanted)
                except (RequestError, OSError):
                    continue
                if reached > bar.n or bar.desc.startswith("starting"):
                    bar.set_description("transfer" if reached < wanted else "finishing the notebook")
                    bar.update(reached - bar.n)
