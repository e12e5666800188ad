"""How much memory a run will take, computed before it starts; and the one-line error if that is too much."""

from __future__ import annotations

import ctypes
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import torch

from nstlab.errors import RequestError, RunError
from nstlab.gates import parse_chosen, parse_gates
from nstlab.layers import architecture
from nstlab.network import (
    Layer,
    bytes_kept,
    choose_device,
    is_computed_again,
    is_in_strips,
    layers_of,
    workspace,
)
from nstlab.settings import Settings

BASE_MEMORY = 0.7e9 if torch.version.cuda else 0.3e9  # Python with torch, whose libraries for CUDA take more than half
WORKSPACE = 0.06e9  # at least, of NNPACK, which keeps it for its next call, or of Winograd
TILES = (2048, 1536, 1024, 768, 512, 384, 256, 128)  # that tile="auto" chooses from
FREED = 0.07e9  # at most this much is freed and kept: small tensors by malloc, large ones as gaps in the arena
FREED_IN_TILES = 0.35e9  # the same in tiles: what one took in the arena, and between them from malloc [measured]
OF_STATISTIC = {"mean_std": 3.0, "binarised": 4.5, "gaussian_w2": 8.5, "sliced_wasserstein": 5.0}  # [measured]
OF_STATISTIC |= dict.fromkeys(("gram", "gram_l1", "mmd_gaussian"), 0.0)
OF_MASK, OF_BORDER = 2.2, 3.5  # bytes for each value of a style layer [measured]
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad alloc")
ONEDNN_FAILED = re.compile(r"could not (create|execute) a primitive$|could not create a memory( object)?$")

Shape = tuple[float, float]


def memory_needed(settings: Settings, height: float, width: float, style: Shape | None = None, batch: int = 1) -> float:
    """The peak memory of a run of `settings` at height x width, in bytes, including Python and torch.

    style: height and width of the style picture, if it may be larger: its statistics are taken first, layer by
    layer. batch: how many such runs share one pass of the network; several do without the fast path.
    Backward keeps each ReLU's output, 4 bytes per value, in bfloat16 2; the fast path keeps 1 byte if no loss reads
    it, none if it computes it again, and 4 instead of 12 for a pooling. Each layer needs a few more tensors at once,
    when those before it are kept. L-BFGS keeps two pictures for each step that it remembers.
    """
    layers = computed_layers(settings)
    fast = settings.convolution != "plain" and choose_device(settings.device).type == "cpu" and batch == 1
    pictures = 4 * 3 * height * width * (2 * settings.history_size + 10 if settings.optimizer == "lbfgs" else 10)
    weights = 4 * sum(layer.parameters for layer in layers_of(settings.network))
    float32 = fast and settings.precision != "bfloat16"
    if fast:
        weights += sum(_kernels_kept(layer, settings, height, width) for layer in layers if layer.parameters)
    fixed = BASE_MEMORY + weights + (_workspace(settings, layers, height, width) if float32 else 0)
    if is_tiled(settings, height, width):
        tensors = pictures + _in_tiles(settings, layers, fast, height, width)
        return fixed + tensors + min(tensors, FREED_IN_TILES)
    most, widest = _within(settings, layers, fast, (height, width))
    if parse_chosen(settings.gates):  # content, style and picture in one graph, before the run
        most = 3 * most
    running = batch * (most * height * width + pictures)
    preparing = (widest + 4 * 3) * style[0] * style[1] if style else 0.0
    tensors = max(running, preparing)
    return fixed + tensors + min(tensors, FREED)


def _kernels_kept(layer: Layer, settings: Settings, height: float, width: float) -> float:
    """The bytes that a layer's fast convolution keeps besides the weights; as in one, if the picture is in tiles."""
    shape, dtype, lean = _as_computed(layer, settings, height, width)
    return bytes_kept(*shape, dtype, lean) * layer.parameters


def _workspace(settings: Settings, layers: Sequence[Layer], height: float, width: float) -> float:
    if is_tiled(settings, height, width):
        return WORKSPACE
    computed = [_as_computed(layer, settings, height, width) for layer in layers if layer.kind == "conv"]
    return max([WORKSPACE, *(workspace(*shape, lean) for shape, _, lean in computed)])


def _as_computed(
    convolution: Layer, settings: Settings, height: float, width: float
) -> tuple[tuple[int, int, int, int], torch.dtype, bool]:
    """Its inputs, outputs, height and width in a picture of this shape, the type it computes in, and whether lean."""
    shape = convolution.inputs, convolution.features, *convolution.size(int(height), int(width))
    dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    return shape, dtype, convolution_of(settings, height, width) == "lean"


def _within(settings: Settings, layers: Sequence[Layer], fast: bool, whole: Shape | None = None) -> tuple[float, float]:
    """Bytes for each pixel of the picture that exist at once: at most, and of the widest layer alone.

    whole: the picture's height and width, if it is not in tiles.
    """
    content, style = set(settings.content_layers), set(settings.style_layers)
    wanted = {*content, *style, *_gated_layers(settings)}
    in_half = fast and settings.precision == "bfloat16" and settings.tile is None
    stored, computed = (2, 3) if in_half else (4, 4)  # bytes a value; a Gram's are float32 while it is computed
    by_style, by_content = _kept_by_losses(settings)
    most = widest = 0.0
    kept = by_content * sum(layer.features / layer.stride**2 for layer in layers if layer.name in content)
    convolution, times = None, 2.5 if fast else 4.0
    for layer in layers:
        convolution = layer if layer.kind == "conv" else convolution if layer.kind == "relu" else None
        in_strips = bool(fast and whole and convolution and layer.name not in content and not by_style)
        if in_strips:
            shape, dtype, lean = _as_computed(convolution, settings, *whole)
            in_strips = is_in_strips(*shape, dtype, lean)
        values = layer.features / layer.stride**2
        kept += by_style * values if layer.name in style else 0.0
        if layer.kind == "relu" and not (in_strips and is_computed_again(convolution.inputs, layer.features)):
            kept += (stored if layer.name in wanted or not fast else 1) * values
        elif layer.kind == "block":  # measured
            kept += layer.kept / layer.stride**2
        elif layer.kind == "pool":
            kept += (4 if fast and settings.pooling == "max" else 12) * values
        at_once = max(computed * layer.features, layer.kept) / layer.stride**2
        most, widest = max(most, kept + (1.6 if in_strips else times) * at_once), max(widest, times * at_once)
    return most, widest


def _kept_by_losses(settings: Settings) -> tuple[float, float]:
    """Bytes for each value of the style layers, and of the content layers, that exist besides the network's own.

    For style, what the statistic keeps for its gradient, once for each mask; a Gram matrix of everything keeps nothing.
    For content, the target, and what the loss keeps of the difference.
    """
    views = len(set(settings.content_masks or ()))
    by_style = OF_STATISTIC.get(settings.style_loss, 5.0) * max(views, 1) + OF_MASK * views
    by_style += OF_BORDER if settings.padding == "replicate" else 0.0
    return by_style, 4.0 if settings.content_loss == "l2" else 8.0


def _gated_layers(settings: Settings) -> set[str]:
    """Those whose activations are kept for their gates."""
    if chosen := parse_chosen(settings.gates):
        return {chosen[2]} - {None}  # the style layers are kept anyway
    return set(parse_gates(settings.gates))


def is_tiled(settings: Settings, height: float, width: float) -> bool:
    """Whether a picture of this shape is computed in more than one tile."""
    return isinstance(settings.tile, int) and max(height, width) > settings.tile


def convolution_of(settings: Settings, height: float, width: float) -> str:
    """The setting `convolution`; for a picture in tiles lean, which takes less memory and little more time.

    [measured: 1.5 GB instead of 1.6 at 1024² in tiles of 512, and 5 % more seconds]
    """
    is_lean = settings.convolution == "auto" and is_tiled(settings, height, width)
    return "lean" if is_lean else settings.convolution


def _in_tiles(settings: Settings, layers: Sequence[Layer], fast: bool, height: float, width: float) -> float:
    """The bytes of an evaluation in tiles: what goes between the segments, and one tile within the widest of them."""
    ends = [0, *(layer.index for last, layer in pairwise(layers) if layer.stride > last.stride), len(layers)]
    between = [4 * layers[end - 1].features / layers[end - 1].stride ** 2 if end else 12.0 for end in ends[:-1]]
    most = max(  # backward through segment k: its input and those before it, and two gradients
        sum(between[1 : k + 1]) + between[k] + (between[k + 1] if k + 1 < len(between) else 0.0)
        for k in range(len(between))
    )
    targets = sum(4 * layer.features / layer.stride**2 for layer in layers if layer.name in settings.content_layers)
    tile = 0.0
    for a, b in pairwise(ends):
        side = settings.tile * (layers[a - 1].stride if a else 1) ** 0.5 + 16  # pixels; see nstlab.optimise.tiles
        tile = max(tile, _within(settings, layers[a:b], fast)[0] * min(side, height) * min(side, width))
    return (most + targets) * height * width + tile


def with_tile(settings: Settings, height: float, width: float) -> Settings:
    """The same settings with a number, or None for the whole picture, in place of `tile="auto"`.

    height, width: of the content. What the machine has decides, not what is free, so that a run is the same run
    whatever else goes on. Raises RequestError if even small tiles need more than the setting `memory`.
    """
    if settings.tile != "auto":
        return settings
    scale = settings.size / max(height, width)
    allowed = 0.75 * memory_in_all(settings.device) if settings.memory is None else 1e9 * settings.memory
    for tile in (None, *TILES):
        tried = settings.with_(tile=tile)
        needed = memory_needed(tried, height * scale, width * scale)
        if needed <= allowed:
            return tried
    if settings.memory is not None:
        history = "; optimizer=adam or a smaller history_size takes less" if settings.optimizer == "lbfgs" else ""
        raise RequestError(
            f"size={settings.size} takes {needed / 1e9:.1f} GB in tiles of {tile} pixels, which is more than "
            f"memory={settings.memory:g}{history}"
        )
    return tried


def memory_in_all(device: str) -> float:
    """The bytes that a run on this device can have if nothing else runs."""
    chosen = choose_device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_properties(chosen).total_memory + BASE_MEMORY
    return min(psutil.virtual_memory().total, left_of_the_groups(all_of_it=True))


def memory_free(device: str) -> float:
    """The bytes that a run on this device can have: those free, and those that Python with torch has already.

    On a GPU these are also what torch keeps of the tensors of earlier runs, for the next.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        kept = torch.cuda.memory_reserved(chosen) - torch.cuda.memory_allocated(chosen)
        return torch.cuda.mem_get_info(chosen)[0] + kept + BASE_MEMORY
    system = psutil.virtual_memory().available + psutil.swap_memory().free
    return min(system, left_of_the_groups()) + BASE_MEMORY


def left_of_the_groups(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup"), all_of_it: bool = False
) -> float:
    """The bytes that the limits of this process's control groups, and of those above, leave; ∞ without limits.

    all_of_it: the limits themselves.

    Containers and batch systems set them; psutil sees only the whole machine. Linux has two versions: one tree for
    everything, or one for memory alone. Cached files that can be dropped count as free.
    """
    left = math.inf
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return left  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tree, names = mounted, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            tree, names = mounted / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = tree / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(tree):
                left = min(left, _left_of(folder, *names, all_of_it))
    return left


def _left_of(group: Path, most: str, used: str, cached: str, all_of_it: bool) -> float:
    try:
        limit, current = ((group / name).read_text().strip() for name in (most, used))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf  # a group without a limit, or not mounted here
    if limit == "max":
        return math.inf
    return int(limit) if all_of_it else int(limit) - int(current) + int(stat.get(cached, 0))


def size_that_fits(settings: Settings, height: float, width: float, free: float) -> int:
    """The largest size, in steps of 32 pixels, at which a run of this shape takes at most `free` bytes."""
    longer = max(height, width)
    size = int(longer) // 32 * 32
    while size > 32 and memory_needed(settings, height * size / longer, width * size / longer) > free:
        size -= 32
    return size


def check_memory(settings: Settings, height: int, width: int, style: Shape | None = None) -> None:
    """Raises RequestError if there is too little memory for a run of this shape at `settings.size`.

    style: the style picture's height and width to this height and width of the content.
    """
    scale = settings.size / max(height, width)
    height, width, style = height * scale, width * scale, tuple(side * scale for side in style or ()) or None
    needed, free = memory_needed(settings, height, width, style), memory_free(settings.device)
    if needed > free:
        if memory_needed(settings, height, width) <= free:
            raise RequestError(
                f"the style picture of {style[1]:.0f} x {style[0]:.0f} pixels takes about {needed / 1e9:.1f} GB of "
                f"memory and {free / 1e9:.1f} GB are free: choose a smaller style_size"
            )
        fits = size_that_fits(settings, height, width, free)
        raise RequestError(
            f"size={settings.size} takes about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: "
            f"size={fits} fits{_or_tiles(settings)}"
        )


@contextmanager
def apart(tiled: bool) -> Iterator[None]:
    """Within this, what is large takes its memory from the system, and gives it back when it goes.

    So what stays, such as weights that are laid out, leaves no gaps between what comes and goes in the iterations, and
    these begin without gaps from the time before. Afterwards glibc's malloc keeps for reuse what an iteration frees
    (up to 32 MB in one piece, and 256 MB at the heap's end), which is fastest. tiled: in tiles less, 10 and 64 MB: a
    tenth less memory, and 5 % more seconds. [measured at 1024²] Other systems' malloc is left unchanged.
    """
    _keep_freed(1, 1)
    try:
        yield
    finally:
        _keep_freed(*((10, 64) if tiled else (32, 256)))


def _keep_freed(blocks: int, at_the_end: int) -> None:
    """malloc keeps freed blocks of less than so many MB, and so many MB at the heap's end."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, blocks << 20)
        libc.mallopt(TRIM_THRESHOLD, at_the_end << 20)


def _or_tiles(settings: Settings) -> str:
    takes_it = settings.tile is None and "tile" in architecture(settings.network).takes
    return ", or take tile=auto, which is slower and needs less" if takes_it else ""


@contextmanager
def one_line_without_memory(settings: Settings, height: int, width: int) -> Iterator[None]:
    """Turns the many out-of-memory errors into a RunError that says which size would fit."""
    height, width = (side * settings.size / max(height, width) for side in (height, width))
    free = memory_free(settings.device)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fits = min(size_that_fits(settings, height, width, free), max(32, settings.size * 3 // 4 // 32 * 32))
        raise RunError(f"out of memory at size={settings.size}: size={fits} should fit{_or_tiles(settings)}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is torch's, NNPACK's, oneDNN's or Python's out-of-memory error.

    oneDNN names no reason. What it cannot compute at all it refuses earlier, as "a primitive descriptor"; what fails
    afterwards got no memory for its code, its workspace or its tensors.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower().strip()
    return any(words in text for words in OUT_OF_MEMORY) or ONEDNN_FAILED.match(text) is not None


def computed_layers(settings: Settings) -> tuple[Layer, ...]:
    """The layers up to the deepest one that a loss reads."""
    wanted = {*settings.content_layers, *settings.style_layers}
    layers = layers_of(settings.network)
    return layers[: max(layer.index for layer in layers if layer.name in wanted)]
