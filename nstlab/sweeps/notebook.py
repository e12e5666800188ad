"""One notebook executed by papermill with other parameters, in its own kernel."""

from __future__ import annotations

import ast
import json
import operator
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from nstlab.errors import RequestError, RunError, unknown
from nstlab.rules import OF_NETWORK
from nstlab.runs import Occupied, Run
from nstlab.settings import Settings
from nstlab.storage import MOST_JSON, SHIPPED, home, out_folder, parse_json, read_regular, write_whole

if TYPE_CHECKING:
    from traitlets.config import Config

MARK = "notebook.json"
"""In a run's folder: which notebook has run to its end here, and for how many iterations."""

MOST_NOTEBOOK = 100 << 20  # bytes; one with results has a few million
ARITHMETIC = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

DIE_WITH_PARENT = "--IPKernelApp.exec_lines=__import__('ctypes').CDLL(None).prctl(1, 9)"
"""PR_SET_PDEATHSIG, SIGKILL: on Linux a busy kernel dies at the same moment as its parent.

Elsewhere, and before this line has run, ipykernel notices by itself within a second.
"""


class Stopped(Exception):
    """The execution was stopped on request, with the run's checkpoint stored."""


class KernelDied(RunError):
    """The kernel process ended during the notebook (out of memory, say)."""


def notebook_parameters(notebook: Path) -> dict[str, Any]:
    """Name -> default, from a notebook's parameters cell. Raises RequestError if it is missing or needs running.

    Values are read as in Python: with annotations, several in a line, and arithmetic on plain values. papermill's
    own inspection takes seconds to import and reads the cell by regular expression.
    """
    if not notebook.is_file():
        known = sorted(path.name for path in (home() / "notebooks").glob("*.ipynb"))
        raise unknown("notebook", notebook.name, known)
    sources = _sources(notebook, "parameters")
    if not sources:
        raise RequestError(f"{notebook} has no cell tagged `parameters`")
    found: dict[str, Any] = {}
    try:
        for line in ast.parse(sources[0]).body:
            if isinstance(line, ast.AnnAssign) and line.value is None:
                continue  # a name without a value
            if isinstance(line, (ast.Assign, ast.AnnAssign)):
                value = _evaluated(line.value, found)
                for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
                    _assign(target, value, found)
            elif not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):
                raise ValueError(ast.unparse(line).splitlines()[0])
    except (ValueError, SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        what = " ".join(str(error).split())
        raise RequestError(f"{notebook}: its parameters cell may hold only NAME = plain value, not {what}") from None
    return found


def was_executed(notebook: Path) -> bool:
    """Whether papermill has written values into this notebook before; these stay in force until replaced."""
    return bool(_sources(notebook, "injected-parameters"))


def _sources(notebook: Path, tag: str) -> list[str]:
    """The code of a notebook's cells with a tag. Raises RequestError if it is not a notebook."""
    try:
        stored = json.loads(read_regular(notebook, MOST_NOTEBOOK))
        code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
        return ["".join(cell["source"]) for cell in code if tag in cell["metadata"].get("tags", ())]
    except OSError as error:
        raise RequestError(f"{notebook} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestError(f"{notebook} is not a readable notebook") from None


def _evaluated(node: ast.expr, known: dict[str, Any]) -> Any:
    """The value of a literal, a known name, or arithmetic on them. Raises ValueError for anything else."""
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_evaluated(part, known) for part in node.elts]
    if isinstance(node, ast.UnaryOp) and type(node.op) in ARITHMETIC:
        return ARITHMETIC[type(node.op)](_evaluated(node.operand, known))
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        sides = _evaluated(node.left, known), _evaluated(node.right, known)
        if not all(isinstance(side, (int, float)) and abs(side) < 1e9 for side in sides):
            raise ValueError(ast.unparse(node)[:80])
        return ARITHMETIC[type(node.op)](*sides)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(ast.unparse(node)[:80]) from None


def _assign(target: ast.expr, value: Any, found: dict[str, Any]) -> None:
    if isinstance(target, ast.Name):
        found[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, list) and len(value) == len(target.elts):
        for part, one in zip(target.elts, value, strict=True):
            _assign(part, one, found)
    else:
        raise ValueError(ast.unparse(target)[:80])


def run_notebook(
    notebook: str | Path, values: dict[str, Any], out: str | Path | None = None, progress: bool = True
) -> Run:
    """Execute a notebook of one run with papermill, and put the executed copy into the run's folder. Returns the run.

    notebook: a path, relative to notebooks/; values: parameters that differ from the notebook's own; out: the folder
    of runs. Raises RequestError before anything runs (for a name that is not among the notebook's parameters, or a
    value that Settings refuses), RunError if a cell fails.
    """
    notebook = home() / "notebooks" / notebook
    parameters = notebook_parameters(notebook)
    for name in values:
        if name not in parameters:
            raise unknown(f"parameter of {notebook.name}", name, parameters)
    merged = parameters | values
    fields = Settings.model_fields
    settings = Settings.over(*({n: v for n, v in part.items() if n in fields} for part in (parameters, values)))
    if "network" in values:  # what is the network's own must not stay the cell's
        values = {name: None for name in OF_NETWORK if name in parameters} | values
    if was_executed(notebook):
        values = merged | values
    run = Run(settings, out)
    plain = run.settings.model_dump(mode="json")  # lists, not tuples; absolute paths
    given = {name: plain.get(name, value) for name, value in values.items()}
    if out is not None or home() == SHIPPED:  # whose notebooks would not find the current folder
        given["out"] = str(out_folder(out))
    others = {name: value for name, value in merged.items() if name not in plain and name != "out"}
    with _followed(run, progress):
        execute(notebook, run.folder, given)
    require_result(run, notebook)
    write_mark(run.folder, notebook.name, others, settings.iterations)
    return run


def require_result(run: Run, notebook: Path) -> None:
    """Raises RunError if the notebook has ended without computing this run."""
    if not run.complete:
        raise RunError(
            f"{notebook.name} ended, but its run has not reached iteration {run.settings.iterations} "
            f"(it has {run.stored}): the notebook must compute lab.Run(settings, out=out).advance()"
        )


def write_mark(folder: Path, notebook: str, others: dict[str, Any], iterations: int, **more: Any) -> None:
    """Note in a run's folder that the notebook ran to its end; others: its parameters that are not settings."""
    mark = {"notebook": notebook, "parameters": others, "iterations": iterations, **more}
    write_whole(folder / MARK, (json.dumps(mark, indent=2) + "\n").encode())


class Mark(BaseModel):
    """What notebook.json holds."""

    model_config = ConfigDict(extra="ignore", strict=True)

    notebook: str
    parameters: dict[str, Any]
    iterations: int
    seconds: float | None = None
    ssim_content: float | None = None


def read_mark(folder: Path) -> dict[str, Any]:
    """What `write_mark` noted; an empty dict if there is nothing readable."""
    try:
        return Mark.model_validate(parse_json(read_regular(folder / MARK, MOST_JSON))).model_dump()
    except (OSError, ValueError):
        return {}


class Kernel:
    """The kernel of one execution, so that another thread can stop it."""

    def __init__(self) -> None:
        self.manager: Any = None
        self.stopped = False

    def manager_class(self, log: Path) -> type:
        """A jupyter_client manager that registers itself here; the kernel process's stderr goes to `log`."""
        from jupyter_client.manager import AsyncKernelManager

        kernel = self

        class Manager(AsyncKernelManager):
            async def start_kernel(self, **options: Any) -> None:
                kernel.manager = self
                with log.open("wb") as stderr:
                    await super().start_kernel(**(options | {"stderr": stderr}))

        return Manager

    def before_cell(self, **_: Any) -> None:
        """nbclient's hook: catches a stop that came while the kernel ignored signals (starting, say)."""
        if self.stopped:
            raise Stopped

    def stop(self, now: bool = False) -> None:
        """Interrupt the kernel, so that the run stores its checkpoint; now: kill it instead."""
        self.stopped = True
        provisioner = getattr(self.manager, "provisioner", None)
        process = getattr(provisioner, "process", None)
        if process is not None and process.poll() is None:
            process.kill() if now else _interrupt(process)


def _interrupt(process: subprocess.Popen) -> None:
    if sys.platform != "win32":
        process.send_signal(signal.SIGINT)
        return
    from jupyter_client.win_interrupt import send_interrupt  # Windows has no such signal, but kernels wait for an event

    send_interrupt(process.win32_interrupt_event)


def execute(
    notebook: Path, folder: Path, given: dict[str, Any], kernel: Kernel | None = None, sockets: Path | None = None
) -> None:
    """Execute a notebook into `folder`/notebook.ipynb; an earlier copy stays until this one has ended.

    given: parameters as plain JSON values; sockets: where to keep the kernel's sockets (None: the system's temporary
    folder). Raises RunError if a cell fails, KernelDied, Stopped after `kernel.stop()`, or Occupied if another
    process is computing the notebook's run.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    kernel = kernel or Kernel()
    copy = folder / "notebook.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nstlab-", dir=sockets) as private:
        log, beside = Path(private) / "kernel.log", Path(private) / "notebook.ipynb"
        try:
            papermill.execute_notebook(
                str(notebook),
                str(beside),
                given,
                kernel_name="python3",
                progress_bar=False,
                config=_kernel_config(private),
                **_for_nbclient(
                    coalesce_streams=True,
                    resources={"metadata": {"path": str(notebook.parent)}},
                    kernel_manager_class=kernel.manager_class(log),
                    extra_arguments=[DIE_WITH_PARENT] if sys.platform == "linux" else [],
                    on_cell_start=kernel.before_cell,
                ),
            )
        except PapermillExecutionError as error:
            if kernel.stopped:
                raise Stopped from None
            if error.ename == Occupied.__name__:
                raise Occupied(error.evalue) from None
            write_whole(copy, beside.read_bytes())
            line = f"{error.ename}: {error.evalue}".splitlines()[0]
            raise RunError(f"{notebook.name} stopped at cell {error.cell_index + 1}: {line}; see {copy}") from None
        except (DeadKernelError, RuntimeError) as error:
            if kernel.stopped:
                raise Stopped from None
            said = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
            reason = said[-1] if said else (str(error).strip() or type(error).__name__).splitlines()[0]
            raise KernelDied(f"{notebook.name}: its kernel died ({reason}); the run stays at its checkpoint") from None
        except OSError:
            raise
        except Exception as error:  # papermill, nbclient and nbformat raise various kinds for a bad notebook
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(f"{notebook.name} could not be executed: {reason}") from None
        write_whole(copy, beside.read_bytes())


def _for_nbclient(**options: Any) -> dict[str, Any]:
    """The options that this nbclient knows; papermill passes them on to it, which is undocumented."""
    from nbclient import NotebookClient

    return {name: value for name, value in options.items() if name in NotebookClient.class_trait_names()}


def _kernel_config(folder: str) -> Config:
    """Puts all the kernel's files into our own folder, including sockets instead of TCP ports where possible."""
    from traitlets.config import Config

    sockets = {"transport": "ipc", "ip": f"{folder}/kernel"} if os.name == "posix" else {}
    return Config({"KernelManager": {"connection_file": f"{folder}/kernel.json", **sockets}})


@contextmanager
def _followed(run: Run, progress: bool) -> Iterator[None]:
    """Shows a bar that follows the history of a run that a notebook computes elsewhere."""
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(run, over), daemon=True)
    if progress:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if progress:
            thread.join()


def _follow(run: Run, over: threading.Event) -> None:
    wanted = run.settings.iterations
    with tqdm(total=wanted, unit="it", desc="starting the kernel", mininterval=0.5) as bar:
        while not over.wait(0.5):
            try:
                reached = min(max(len(run.history) - 1, 0), wanted)
            except (RequestError, OSError):
                continue
            if reached > bar.n or bar.desc.startswith("starting"):
                bar.set_description("transfer" if reached < wanted else "finishing the notebook")
                bar.update(reached - bar.n)
