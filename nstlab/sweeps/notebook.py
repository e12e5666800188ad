"""One notebook executed by papermill with other parameters, in a kernel of its own."""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nstlab.runs import Run
from nstlab.settings import RequestError, RunError, Settings, unknown
from nstlab.storage import home, write_whole

if TYPE_CHECKING:
    from traitlets.config import Config

MARK = "notebook.json"
"""In a run's folder: which notebook has run to its end here, and how far it was asked to go."""

DIE_WITH_PARENT = "--IPKernelApp.exec_lines=__import__('ctypes').CDLL(None).prctl(1, 9)"
"""PR_SET_PDEATHSIG, SIGKILL: on Linux a kernel in a long computation dies in the moment its parent does.

Elsewhere, and before this line has run, ipykernel notices within a second of its own accord.
"""


class Stopped(Exception):
    """The execution was stopped on request; the run's checkpoint is stored."""


class KernelDied(RunError):
    """The kernel process ended in the middle of the notebook (out of memory, say)."""


def notebook_parameters(notebook: Path) -> dict[str, Any]:
    """Name -> default of a notebook's parameters cell. Raises RequestError if it has none, or not plain literals.

    papermill's own inspection takes seconds to import and reads the cell by regular expression.
    """
    if not notebook.is_file():
        known = sorted(path.name for path in (home() / "notebooks").glob("*.ipynb"))
        raise unknown("notebook", notebook.name, known)
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
        sources = ["".join(cell["source"]) for cell in tagged if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RequestError(f"{notebook} is not a notebook that can be read") from None
    if not sources:
        raise RequestError(f"{notebook} has no cell tagged `parameters`")
    try:
        lines = [line for line in ast.parse(sources[0]).body if isinstance(line, ast.Assign)]
        return {target.id: ast.literal_eval(line.value) for line in lines for target in line.targets}
    except (ValueError, SyntaxError, AttributeError):
        raise RequestError(f"{notebook}: the parameters cell must hold NAME = plain literal, one a line") from None


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
    others = {name: value for name, value in merged.items() if name not in plain and name != "out"}
    with _followed(run, progress):
        execute(notebook, run.folder, given)
    write_mark(run.folder, notebook.name, others, settings.iterations)
    return run


def write_mark(folder: Path, notebook: str, others: dict[str, Any], iterations: int, **more: Any) -> None:
    """Note in a run's folder that the notebook ran to its end; others: its parameters that are no settings."""
    mark = {"notebook": notebook, "parameters": others, "iterations": iterations, **more}
    write_whole(folder / MARK, (json.dumps(mark, indent=2) + "\n").encode())


def read_mark(folder: Path) -> dict[str, Any]:
    """What `write_mark` noted; an empty dict where there is nothing, or nothing readable."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return mark if isinstance(mark, dict) else {}
    except (OSError, ValueError):
        return {}


class Kernel:
    """The kernel of one execution, so that another thread can stop it."""

    def __init__(self) -> None:
        self.manager: Any = None
        self.stopped = False

    def manager_class(self, log: Path) -> type:
        """jupyter_client's manager, which tells us that it is there; what the process itself says goes to `log`."""
        from jupyter_client.manager import AsyncKernelManager

        kernel = self

        class Manager(AsyncKernelManager):
            async def start_kernel(self, **options: Any) -> None:
                kernel.manager = self
                with log.open("wb") as stderr:
                    await super().start_kernel(**(options | {"stderr": stderr}))

        return Manager

    def before_cell(self, **_: Any) -> None:
        """nbclient's hook: catches a stop that came while the kernel was deaf to signals (starting, say)."""
        if self.stopped:
            raise Stopped

    def stop(self, now: bool = False) -> None:
        """Interrupt it, as Ctrl-C in a notebook does: the run stores its checkpoint; now: kill it instead."""
        self.stopped = True
        provisioner = getattr(self.manager, "provisioner", None)
        process = getattr(provisioner, "process", None)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL if now and os.name == "posix" else signal.SIGINT)


def execute(
    notebook: Path, folder: Path, given: dict[str, Any], kernel: Kernel | None = None, sockets: Path | None = None
) -> None:
    """Execute a notebook into `folder`/notebook.ipynb; what was there stays until this one has ended.

    given: parameters as plain JSON values; sockets: where to keep the kernel's sockets (None: the system's
    temporary folder). Raises RunError if a cell fails, KernelDied, or Stopped after `kernel.stop()`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    kernel = kernel or Kernel()
    copy, beside = folder / "notebook.ipynb", folder / ".notebook.part.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nstlab-", dir=sockets) as private:
        log = Path(private) / "kernel.log"
        try:
            papermill.execute_notebook(
                str(notebook),
                str(beside),
                given,
                kernel_name="python3",
                progress_bar=False,
                coalesce_streams=True,
                resources={"metadata": {"path": str(notebook.parent)}},
                config=_kernel_config(private),
                kernel_manager_class=kernel.manager_class(log),
                extra_arguments=[DIE_WITH_PARENT] if sys.platform == "linux" else [],
                on_cell_start=kernel.before_cell,
            )
        except PapermillExecutionError as error:
            if kernel.stopped:
                raise Stopped from None
            os.replace(beside, copy)
            line = f"{error.ename}: {error.evalue}".splitlines()[0]
            raise RunError(f"{notebook.name} stopped at cell {error.cell_index + 1}: {line}; see {copy}") from None
        except (DeadKernelError, RuntimeError) as error:
            if kernel.stopped:
                raise Stopped from None
            said = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
            reason = said[-1] if said else (str(error).strip() or type(error).__name__).splitlines()[0]
            raise KernelDied(f"{notebook.name}: its kernel died ({reason}); the run stays at its checkpoint") from None
    os.replace(beside, copy)


def _kernel_config(folder: str) -> Config:
    """All that the kernel leaves lies in a folder of our own: its sockets, where there are such, not TCP ports."""
    from traitlets.config import Config

    sockets = {"transport": "ipc", "ip": f"{folder}/kernel"} if os.name == "posix" else {}
    return Config({"KernelManager": {"connection_file": f"{folder}/kernel.json", **sockets}})


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
