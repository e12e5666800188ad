"""What the command line does: nstlab run, like, sweep, lab, runs, show, prune, layers, doctor.

Exit codes: 0 done, 1 a run failed, 2 the request was wrong, 130 interrupted. All output goes through `say`.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from nstlab import own
from nstlab.errors import RequestError, RunError
from nstlab.settings import Settings, as_text
from nstlab.terminal import say

MOST_FAULTS = 20  # lines printed about one sweep file
FREE_OF_TORCH = ("-h", "--help", "--version", "lab")


def prepare() -> None:
    """Do the slow imports before a command begins: until then Ctrl-C has nothing to wait for."""
    if len(sys.argv) > 1 and not set(FREE_OF_TORCH) & set(sys.argv):
        importlib.import_module("nstlab.runs")


out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="The folder of runs (default: the project's out/)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nstlab")
def cli() -> None:
    """Neural style transfer, taken apart."""


@cli.command()
@click.option("--content", help="The picture to paint: a sample's name or a path.")
@click.option("--style", help="The picture to take the style from: a sample's name or a path; or several.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Any setting; lists as a,b,c. Repeatable.")
@out_option
@click.option("--from", "source", type=click.Path(path_type=Path), help="Take the settings from a run.json or PNG.")
@click.option("--notebook", metavar="NAME", help="Run it through a notebook, such as 04_vanilla_transfer.ipynb.")
@click.option("--yes", is_flag=True, help="Download the weights that --from names, if necessary.")
@click.option("--trust", is_flag=True, help="Run the code of your own that --from names.")
def run(
    content: str | None,
    style: str | None,
    pairs: tuple[str, ...],
    out: Path | None,
    source: Path | None,
    notebook: str | None,
    yes: bool,
    trust: bool,
) -> None:
    """Run one transfer; it resumes from what is stored."""
    from nstlab.images import read_settings
    from nstlab.runs import Run

    began = time.perf_counter()
    texts = _pairs(pairs) | {name: value for name, value in (("content", content), ("style", style)) if value}
    settings = Settings.from_text(texts, read_settings(source) if source else None)
    if source and "weights" not in texts and not yes:
        _refuse_download(settings, f"{source} was made with")
    _ask_for_trust(settings, source, trust)
    if notebook:
        from nstlab.sweeps import run_notebook

        given = settings.model_dump(mode="json", include=None if source else set(texts))
        computed = run_notebook(notebook, given, out)
        say(f"notebook  {computed.folder / 'notebook.ipynb'}")
    else:
        computed = Run(settings, out)
        if source:
            _say_differences(computed, source)
        _advance(computed)
    _say_result(computed, began)


@cli.command()
@click.argument("command", metavar="COMMAND")
@click.option("--tool", metavar="NAME", help="Whose command line it is, if the name of its script does not say.")
@click.option("--run", "at_once", is_flag=True, help="Run it, too.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Replace one of the settings. Repeatable.")
@out_option
@click.option("--yes", is_flag=True, help="Download the tool's weights, if necessary.")
def like(command: str, tool: str | None, at_once: bool, pairs: tuple[str, ...], out: Path | None, yes: bool) -> None:
    """Print the nstlab command that starts from the same loss as COMMAND, another tool's command line, in quotes.

    The tool's defaults are filled in, and what has no counterpart here is named. Tools: neural-style,
    neural-style-pt, pastiche, gatys (his notebook), gordicaleksa, crowsonkb.
    """
    from nstlab.other_tools import like as translated
    from nstlab.runs import Run

    began = time.perf_counter()
    found = translated(command, tool)
    settings = Settings.from_text(_pairs(pairs), found.settings)
    say(settings.command)
    for note in found.notes:
        say(f"nstlab: {note}", err=True)
    if at_once:
        if not yes:
            _refuse_download(settings, f"{found.tool} has")
        computed = Run(settings, out)
        _advance(computed)
        _say_result(computed, began)


def _say_result(computed: Any, began: float) -> None:
    say(f"result    {computed.picture} (iteration {computed.iteration})")
    say(f"run       {computed.folder}")
    say(f"took      {time.perf_counter() - began:.0f} s")


def _advance(run: Any) -> None:
    wanted = run.settings.iterations
    if run.complete:
        say(f"nothing to do: {run.stored} iterations are stored, {wanted} were requested")
        return
    _say_memory(run.settings)
    try:
        run.advance()
    except KeyboardInterrupt:
        reached = run.stored
        where = f"at iteration {reached} of {wanted}" if reached is not None else "before the first checkpoint"
        if reached is not None and reached > wanted:
            where = f"before the picture at iteration {wanted} was computed again"
        say(f"nstlab: stopped {where}; the same command resumes from there", err=True)
        sys.exit(130)
    read_as = run.manifest.get("network", {}).get("read_as")
    if read_as:
        say(f"weights   read as {read_as}")
    began = run.resumed_from
    if began is None:
        say(f"computed {wanted} iterations")
    elif began >= wanted:
        say(f"{began} iterations were stored, but not the picture at iteration {wanted}: computed it again")
    else:
        say(f"continued from iteration {began} to {wanted}")


def _refuse_download(settings: Settings, whose: str) -> None:
    """Weights that the user did not type are not downloaded without a yes."""
    from nstlab.layers import architecture
    from nstlab.network import needs_download

    if needs_download(settings.weights, settings.network):
        raise RequestError(
            f"{whose} weights={settings.weights}, which must be downloaded (550 MB): "
            f"add --yes, or --set weights={architecture(settings.network).weights}"
        )


def _ask_for_trust(settings: Settings, source: Path | None, trust: bool) -> None:
    """Code that a file names is not run without a word."""
    for reference in settings.code.values():
        if trust:
            own.trust(reference)
        elif not own.is_trusted(reference):
            raise RequestError(f"{source} names code to run, {reference}: read it, then add --trust")


def _say_memory(settings: Settings) -> None:
    """Say how much memory the run will take, before it begins."""
    from nstlab.decoding import shape_of
    from nstlab.images import find_picture, resized
    from nstlab.optimise import is_tiled, memory_free, memory_needed, with_tile

    (width, height), style = (
        resized(shape_of(find_picture(name)), size)
        for name, size in (
            (settings.content, settings.size),
            (max(settings.styles, key=lambda s: min(shape_of(find_picture(s)))), settings.style_size or settings.size),
        )
    )
    settings = with_tile(settings, height, width)
    needed, free = memory_needed(settings, height, width, style), memory_free(settings.device)
    in_tiles = f", in tiles of {settings.tile} pixels" if is_tiled(settings, height, width) else ""
    say(f"memory    about {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB free{in_tiles}")


def _pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    texts = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(f"--set {pair}: write NAME=VALUE")
        texts[name.strip()] = value.strip()
    return texts


def _say_differences(run: Any, source: Path) -> None:
    """Name the differences between this machine and its files, and those of the run.json being reproduced."""
    from nstlab.runs import differences, read_manifest

    path = source / "run.json" if source.is_dir() else source
    manifest = read_manifest(path) if path.suffix == ".json" else {}
    if not manifest:
        return
    changed = [name for name, digest in run.sha256.items() if manifest["sha256"].get(name) != digest]
    for name in changed:
        say(f"nstlab: the {name} is not the file that {path} was made with", err=True)
    for difference in differences(manifest, run.settings):
        say(f"nstlab: {difference}; the last bits of the result may differ", err=True)


@cli.command()
@click.argument("file", metavar="FILE")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Replace one of FILE's fixed parameters.")
@out_option
@click.option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler, such as tcp://host:8786.")
@click.option("--workers", type=click.IntRange(1), help="Points to run at once (default: what the machine can take).")
@click.option("--threads", type=click.IntRange(1), help="Threads per point (default: cores divided by workers).")
@click.option(
    "--together",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Compute up to N runs in one batch, before their notebooks: for small pictures on one GPU.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would run, but run nothing.")
@click.option("--status", is_flag=True, help="Say what is done, running and failed, and how long the rest takes.")
@click.option("--only", type=click.Choice(["failed"]), help="Run only the points that failed last time.")
@click.option("--yes", is_flag=True, help="Allow more than 10 000 runs.")
@click.option("--report", is_flag=True, help="Also write notebook 10 about this sweep as one HTML file.")
@click.option("--store", is_flag=True, help="Also copy the table and pictures to notebooks/results/.")
def sweep(file: str, pairs: tuple[str, ...], **options: Any) -> None:
    """Run a grid of transfers. FILE is a YAML file, or the name of one in notebooks/sweeps/.

    papermill executes each point, as many at once as the machine can take. What is stored is not
    computed again. The table and the contact sheet go to out/sweeps/NAME/.
    """
    from nstlab.sweeps import Faults, command

    try:
        sys.exit(command.sweep(file, _pairs(pairs), **options))
    except Faults as faults:
        for line in faults.lines[:MOST_FAULTS]:
            say(f"nstlab: {line}", err=True)
        if len(faults.lines) > MOST_FAULTS:
            say(f"nstlab: and {len(faults.lines) - MOST_FAULTS} more", err=True)
        sys.exit(2)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--files-only", is_flag=True, help="Only put the files there.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[FOLDER] [JUPYTERLAB_OPTIONS]")
def lab(files_only: bool, words: tuple[str, ...]) -> None:
    """Put the notebooks into FOLDER and open JupyterLab there.

    FOLDER is ./nstlab if none is given; in a folder that this made it is that one, in a clone the clone. A file that
    was changed is left alone. Runs go to FOLDER/out. Options of JupyterLab's, such as --no-browser, come last.
    """
    from nstlab.shipped import put
    from nstlab.storage import SHIPPED, home, shipped_home

    named = [] if not words or words[0].startswith("-") else [Path(words[0]).expanduser().absolute()]
    folder = named[0] if named else Path.cwd() / "nstlab" if home() == SHIPPED else home()
    root = folder / "notebooks"
    if folder != shipped_home():
        done, root = put(folder), folder
        changed = [f"{len(files)} {what}" for what, files in (("new", done.new), ("updated", done.updated)) if files]
        say(f"folder    {folder}: {', '.join(changed) or 'up to date'}")
        if done.kept:
            shown = ", ".join(done.kept[:5]) + (f" and {len(done.kept) - 5} more" if len(done.kept) > 5 else "")
            say(f"left      {shown}: changed here; to have what came with nstlab, rename yours and repeat this")
    if files_only:
        return
    from jupyterlab.labapp import LabApp

    os.chdir(folder)
    page = (folder / "notebooks" / "00_start_here.ipynb").relative_to(root)
    options = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{page.as_posix()}"]
    if hasattr(os, "getuid") and os.getuid() == 0:
        options.append("--allow-root")
    LabApp.launch_instance([*options, *words[len(named) :]])


@cli.command()
@out_option
def runs(out: Path | None) -> None:
    """List the stored runs, one per line."""
    from nstlab.runs import Run, last_row, stored_runs

    folders = stored_runs(out)
    if not folders:
        say("no runs are stored")
        return
    line = "{:12}  {:14} {:14} {:>12} {:12} {:>14} {:>11} {:>8}  {}"
    say(line.format("id", "content", "style", "k_S", "init", "iterations", "last loss", "MB", "state"))
    for folder in folders:
        try:
            run = Run.open(folder)
            s, manifest = run.settings, run.manifest
            reached, last = manifest["iteration"], last_row(folder / "history.csv").get("total")
            state = manifest["status"]
            if run.complete:
                state = "complete"
            elif state in ("running", "complete"):
                state = "incomplete"
            done = f"{reached if reached is not None else 0} of {s.iterations}"
            pictures = [name[:14] for name in (Path(s.content).stem, "+".join(Path(style).stem for style in s.styles))]
            size = sum(file.lstat().st_size for file in folder.rglob("*")) / 1e6
            k_S = "→".join(f"{k_S:g}" for k_S in (s.k_S, *(k_S for _, k_S in s.k_S_changes[-1:])))
            loss = "-" if last is None else f"{last:.4g}"
            say(line.format(run.id, *pictures, k_S, s.init, done, loss, f"{size:.1f}", state))
        except (RequestError, RunError, OSError) as error:
            say(f"{folder.name}: unreadable ({error})")


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="PNG_OR_FOLDER")
def show(path: Path) -> None:
    """Show the settings of a picture or a run, and the command that reproduces it."""
    from nstlab.images import code_inside, read_settings
    from nstlab.runs import Run

    settings = read_settings(path)
    if path.is_dir():
        stored = Run.open(path)
        say(f"{'run':20} {stored.folder.name}")
        say(f"{'stored':20} iteration {stored.stored}, frames {', '.join(map(str, stored.stored_frames()))}")
    for name, value in settings.model_dump(mode="json").items():
        mark = "*" if name in settings.changed() else " "
        say(f"{name:19}{mark} {as_text(value)}")
    say("(* not the default)")
    hashes = Run.open(path).code if path.is_dir() else code_inside(path)
    for name, reference in settings.code.items():
        digest = hashes.get(name, "unknown")
        say(f"{name:20} is code of {own.parts(reference)[0]}, SHA-256 {digest}{_now(reference, digest)}")
    say("")
    say(settings.command)


def _now(reference: str, digest: str) -> str:
    """How a file of code compares with the one that made a picture."""
    try:
        return "" if own.sha256(reference) == digest else " (the file is another now)"
    except RequestError:
        return " (the file is not here)"


@cli.command()
@out_option
@click.option("--checkpoints", is_flag=True, help="Also those of complete runs, which then cannot be continued.")
@click.option("--frames", is_flag=True, help="Also those of complete runs on the way; their last picture stays.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(out: Path | None, checkpoints: bool, frames: bool, yes: bool) -> None:
    """Free disk space: list the files that no run needs any more, and ask before removing them."""
    from nstlab.runs import prunable, remove

    found = prunable(out, checkpoints, frames)
    if not found:
        say("nothing can be removed: every stored file is needed")
        return
    for what in dict.fromkeys(item.what for item in found):
        sizes = [item.size for item in found if item.what == what]
        say(f"{sum(sizes) / 1e6:10.1f} MB  {len(sizes)} x {what}")
    total = sum(item.size for item in found) / 1e6
    if yes or click.confirm(f"Remove these {len(found)} files ({total:.1f} MB)?"):
        say(f"removed: {remove(found) / 1e6:.1f} MB are free")
    else:
        say("nothing was removed")


@cli.command()
@click.option("--network", default="vgg19", show_default=True, help="The network.")
@click.option("--weights", help="Its weights; default: the network's own.")
def layers(network: str, weights: str | None) -> None:
    """Print the table of a network's layers: VGG19's 37."""
    from nstlab.network import load_network

    settings = Settings(network=network, weights=weights)
    net = load_network(settings.network, settings.weights, device="cpu")
    say("  F  layer    features  stride  receptive field  parameters  million multiply-adds at 224 x 224")
    for layer in net.layers:
        work = layer.multiply_adds(224, 224) / 1e6
        say(
            f"{layer.index:3}  {layer.name:8} {layer.features:8} {layer.stride:7} {layer.receptive_field:16} "
            f"{layer.parameters:11,} {work:10,.1f}"
        )
    total = sum(layer.parameters for layer in net.layers)
    work = sum(layer.multiply_adds(224, 224) for layer in net.layers)
    say(f"total: {total:,} parameters, {work:,} multiply-adds at 224 x 224")


@cli.command()
@click.option("--sizes", default="128,256,512", show_default=True, help="Longer sides to measure, in pixels.")
@click.option("--network", default="vgg19", show_default=True, help="The network to measure with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(sizes: str, network: str, as_json: bool) -> None:
    """Say what this machine has and what a run costs on it: seconds, memory, convolutions."""
    from nstlab.doctor import examine

    found = examine(sizes.split(","), network, (lambda line: None) if as_json else say)
    if as_json:
        click.echo(json.dumps(found, indent=2))


def main() -> None:
    """Run a command; each error is one line on stderr."""
    logging.basicConfig(handlers=[_Lines()], level=logging.WARNING)
    try:
        cli.main(prog_name="nstlab", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "nstlab"
        _fail(2, f"{error.format_message()}{_one_dash()} (see {where} --help)")
    except (RequestError, click.ClickException) as error:
        _fail(2, str(error))
    except RunError as error:
        _fail(1, str(error))
    except (KeyboardInterrupt, click.Abort):
        _fail(130, "interrupted")
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # if stdout failed, Python would try it again on exit
        if error.errno == errno.EPIPE:  # `nstlab show ... | head`
            sys.exit(1)
        _fail(1, ": ".join(str(part) for part in (error.filename, error.strerror or error) if part))


def _one_dash() -> str:
    """A hint if an option was written with one dash, as in torch's scripts."""
    known = {option.lstrip("-") for name in cli.commands for p in cli.commands[name].params for option in p.opts}
    slips = [word for word in sys.argv if re.fullmatch(r"-[a-z][a-z-]+", word) and word[1:] in known]
    return f": write -{slips[0]}" if slips else ""


class _Lines(logging.Handler):
    """Prints the log's warnings as lines of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"nstlab: {record.getMessage()}", err=True)


def _fail(code: int, message: str) -> None:
    say(f"nstlab: {' '.join(message.split())}", err=True)
    sys.exit(code)
