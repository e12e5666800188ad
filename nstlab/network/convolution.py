"""3x3 convolution with frozen weights, forward and backward, as fast as a CPU allows.

The weights never change, so the gradient of a convolution is a convolution too, with the kernels rotated by 180°
and their two channel axes swapped: `Convolution` has both. On a CPU, in float32, one of three algorithms is chosen
from the shape alone (`algorithm`), never from a timing, so that a run's bytes do not depend on what else the machine
was doing. In all other cases, and with `convolution="plain"`, it is torch's conv2d.

The channels of a position lie side by side in memory ("channels-last"), as oneDNN's convolutions and Winograd's
products want them, but where NNPACK convolves (`layout`): each convolution brings its input into the order that it
reads. bfloat16 has two bytes a value instead of four, and twice the products at a time on processors that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch.nn.functional import conv2d, pad

from nstlab.network.arena import arranged, empty
from nstlab.network.onednn import LaidOut, can_lay_out, has_bfloat16, has_wide_vectors
from nstlab.network.relu import where_positive
from nstlab.network.winograd import NUMBERS, RECIPROCALS, Products, lays_out_products, winograd

FEWEST_CHANNELS = 16  # with fewer, as in conv1_1, the transforms cost more than they save
FEWEST_POSITIONS = 512  # with fewer, reading the transformed kernels (four times as many numbers) dominates
AT_A_TIME = 2**24  # values in and out; more go strip by strip, because the workspace is larger than both
SMALL = 2**23  # of pictures with fewer, strips of half as many cost little time, and take less memory at 256²
FEW_CHANNELS = 64  # with at most as many, NNPACK is no faster than oneDNN, and needs a workspace
HEAVY, SMALL_PICTURE = 2**15, 2**12  # kernels, positions: NNPACK, which transforms its kernels on every call, loses
WHOLE = 2**23  # values, 32 MB: malloc takes more from the system, each time, and so it is computed strip by strip;
IN_STRIP = 2**21  # a strip's memory is then taken from what the last one left
MANY_CHANNELS = 256  # with fewer, Winograd's transforms cost more than its products save, compared with oneDNN
MANY_KERNELS, MANY_POSITIONS = 2**17, 2**13  # with both, Winograd's form of the kernels is large, and quickly made
FEWEST_IF_LEAN = 2**12  # positions; with fewer, making it for each use takes longer than Winograd saves


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: str = "zeros") -> torch.Tensor:
    """A 3x3 convolution: (1, C, H, W), (N, C, 3, 3), (N,) -> (1, N, H, W); padding: "zeros" or "replicate".

    It is torch's, for any device and floating type: the reference for the fast paths. Where a CPU has no bfloat16, its
    numbers are convolved as float32, of which the result is rounded: what processors that have it do.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not has_bfloat16():
        return convolve(x.float(), weight.float(), bias.float(), padding).bfloat16()
    if padding == "zeros":
        return conv2d(x, weight, bias, padding=1)
    return conv2d(bordered(x, padding), weight, bias)


def bordered(x: torch.Tensor, padding: str) -> torch.Tensor:
    """(1, C, H, W) with one position more on each side, (1, C, H + 2, W + 2): zeros, or the border's own values."""
    if padding == "replicate" and x.is_cuda:
        return repeated_border(x)
    return pad(x, (1, 1, 1, 1), mode="constant" if padding == "zeros" else padding)


def repeated_border(x: torch.Tensor) -> torch.Tensor:
    """The same as torch's padding with the border's own values, which on CUDA adds gradients in a random order."""
    x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    return torch.cat([x[:, :, :, :1], x, x[:, :, :, -1:]], dim=3)


def algorithm(inputs: int, outputs: int, height: int, width: int, lean: bool = False) -> str:
    """Which algorithm convolves `inputs` to `outputs` features at height x width: onednn, nnpack or winograd.

    Measured at 128 to 1024 pixels. With vectors of 256 bits NNPACK's Winograd F(6x6, 3x3) is fastest with many
    positions, Winograd F(4x4, 3x3) with kernels transformed once is fastest with many weights, and oneDNN's direct
    convolution with few features or few positions. With vectors of 512 bits oneDNN is twice as fast and NNPACK is not:
    there, and where there is no NNPACK, oneDNN computes all of them, directly or, for the layers with the most
    features, Winograd's products. lean: Winograd only where it is faster even if its form of the kernels, which takes
    several times the weights' memory, is made for each use.

    >>> algorithm(3, 64, 256, 256), algorithm(512, 512, 6, 6)
    ('onednn', 'onednn')
    """
    fewer, more, positions = min(inputs, outputs), max(inputs, outputs), height * width
    if fewer < FEWEST_CHANNELS or positions < FEWEST_POSITIONS:
        return "onednn"
    if "nnpack" not in algorithms(lean):
        is_faster = fewer >= MANY_CHANNELS and (not lean or positions >= FEWEST_IF_LEAN)
        return "winograd" if is_faster and "winograd" in algorithms() else "onednn"
    if more <= FEW_CHANNELS and can_lay_out():
        return "onednn"
    return "winograd" if inputs * outputs >= HEAVY and positions <= SMALL_PICTURE and not lean else "nnpack"


def _algorithm_in(dtype: torch.dtype, *shape: int) -> str:
    return "onednn" if dtype == torch.bfloat16 else algorithm(*shape)


def keeps_products(inputs: int, outputs: int, height: int, width: int, lean: bool = False) -> bool:
    """Whether Winograd's form of the kernels is kept, or made for each use, where that takes little of the time."""
    return not lean and (inputs * outputs < MANY_KERNELS or height * width < MANY_POSITIONS)


def is_in_strips(
    inputs: int, outputs: int, height: int, width: int, dtype: torch.dtype = torch.float32, lean: bool = False
) -> bool:
    """Whether a convolution of this shape is computed strip by strip, its gradient and a pooling after it too."""
    chosen = _algorithm_in(dtype, inputs, outputs, height, width, lean)
    large = max(inputs, outputs) * height * width >= WHOLE
    return large and chosen != "winograd" and layout(dtype, chosen) == torch.channels_last


def algorithms(lean: bool = False) -> list[str]:
    """Those that `algorithm` chooses from with this processor and this torch."""
    if has_wide_vectors() or not nnpack():
        return ["winograd", "onednn"] if can_lay_out() or not has_wide_vectors() else ["onednn"]
    return ["nnpack", "onednn"] if lean else ["nnpack", "winograd", "onednn"]


def rows_at_a_time(inputs: int, outputs: int, height: int, width: int) -> int:
    """How many rows NNPACK convolves at a time: its workspace is larger than what goes in and out."""
    of_a_row = (inputs + outputs) * width
    most = AT_A_TIME // 2 if of_a_row * height <= SMALL else AT_A_TIME
    return height if of_a_row * height < most else max(1, most // (2 * of_a_row))


def workspace(inputs: int, outputs: int, height: int, width: int, lean: bool = False) -> float:
    """The bytes in which NNPACK convolves such a shape in float32, with what goes in and out; 0 for other algorithms.

    64 numbers for 36 positions, and for the 9 of a kernel.
    """
    if algorithm(inputs, outputs, height, width, lean) != "nnpack":
        return 0.0
    values = (inputs + outputs) * rows_at_a_time(inputs, outputs, height, width) * width
    return 4 * ((64 / 36 + 1) * values + 64 * inputs * outputs)


def bytes_kept(inputs: int, outputs: int, height: int, width: int, dtype: torch.dtype, lean: bool = False) -> int:
    """For each weight of a convolution, what its two directions keep in memory besides the network's own weights."""
    shape = inputs, outputs, height, width
    chosen = _algorithm_in(dtype, *shape, lean)
    if chosen == "winograd":
        if not keeps_products(*shape, lean):
            return 0
        return 32 if lays_out_products() else 16  # 36 numbers for 9, for each direction if laid out, else shared
    lays_out = layout(dtype, chosen) == torch.channels_last and can_lay_out(dtype)
    forward = dtype.itemsize if (lays_out and not lean) or dtype == torch.bfloat16 else 0
    return forward + dtype.itemsize


def nnpack() -> Callable[..., torch.Tensor] | None:
    """NNPACK's convolution, which has no public name in torch; None if torch or the processor lacks it."""
    available = getattr(torch, "_nnpack_available", lambda: False)
    return getattr(torch, "_nnpack_spatial_convolution", None) if available() else None


def version_of(tensor: torch.Tensor) -> int | None:
    """How often a tensor was changed in place, by torch's private count; None if torch does not tell."""
    return getattr(tensor, "_version", None)


def is_fast(x: torch.Tensor) -> bool:
    """Whether the fast paths apply to this tensor: one picture, float32 or bfloat16, on a CPU."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and len(x) == 1


def layout(dtype: torch.dtype, chosen: str) -> torch.memory_format:
    """How a convolution by the algorithm `chosen` reads and writes tensors of this type."""
    read_so = chosen == "winograd" or (chosen == "onednn" and can_lay_out())
    side_by_side = read_so or dtype == torch.bfloat16 or has_wide_vectors()
    return torch.channels_last if side_by_side else torch.contiguous_format


class Kernels:
    """The kernels (N, C, 3, 3) and biases (N,) of one direction of a convolution, and how they compute it.

    dtype: the floating type to compute in (None: the weights').
    """

    numbers: tuple[float, ...] = NUMBERS

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype | None = None, lean: bool = False
    ) -> None:
        self.dtype, self.lean = dtype or weight.dtype, lean
        self.bias, self.features = bias.to(self.dtype).contiguous(), tuple(weight.shape[:2])
        self.lays_out = can_lay_out(self.dtype) and not lean  # or else torch does, in each call
        self.plain = partial(_plain, weight, self.dtype)  # for whoever keeps another form of them
        self.laid_out = LaidOut(self.plain)

    @cached_property
    def weight(self) -> torch.Tensor:
        """The kernels as they are, kept."""
        return self.plain()

    @cached_property
    def products(self) -> Products:
        """Winograd's, with these kernels."""
        return Products(self.plain)

    def __call__(self, x: torch.Tensor, passes: torch.Tensor | None = None, relu: bool = False) -> torch.Tensor:
        """(1, C, H, W) -> (1, N, H, W); x counts as 0 where `passes`, of x's shape, is not above 0.

        relu: of the result.
        """
        (N, C), (H, W) = self.features, x.shape[2:]
        if self.goes_in_strips(x):
            return self.in_strips(lambda rows: _positive(*_rows(x, passes, rows)), (H, W), x.dtype, relu)
        chosen, rows = self._algorithm(x), rows_at_a_time(C, N, H, W)
        if layout(x.dtype, chosen) == torch.channels_last or rows >= H:
            return self._convolve(x, passes, chosen, relu)
        y = empty((1, N, H, W), x.dtype)
        for top in range(0, H, rows):
            above = min(top, 1)
            part = slice(top - above, top + rows + 1)  # with a neighbouring row on both sides
            strip = self._convolve(*_rows(x, passes, part), chosen, relu)
            y[:, :, top : top + rows] = strip[:, :, above : above + rows]
        return y

    def goes_in_strips(self, x: torch.Tensor) -> bool:
        """Whether an input as high and wide and of the type of `x` is convolved strip by strip."""
        N, C = self.features
        return is_in_strips(C, N, *x.shape[2:], x.dtype, self.lean)

    def rows(self, x: torch.Tensor, rows: slice, relu: bool = False) -> torch.Tensor:
        """Some rows of the result, (1, N, h, W)."""
        first = max(rows.start - 1, 0)  # with a neighbouring row on both sides
        return self(x[:, :, first : rows.stop + 1], relu=relu)[:, :, rows.start - first : rows.stop - first]

    def in_strips(
        self, rows_of: Callable[[slice], torch.Tensor], size: Sequence[int], dtype: torch.dtype, relu: bool = False
    ) -> torch.Tensor:
        """The same for an input of height x width `size` that need not exist as a whole.

        rows_of: makes rows of it, (1, C, h, W), of type `dtype`.
        """
        N, C = self.features
        y = empty((1, N, *size), dtype, torch.channels_last)
        for rows, window, inner in in_strips(*size, max(N, C)):
            strip = rows_of(window)
            y[:, :, rows] = self._convolve(strip, None, self._algorithm(strip), relu)[:, :, inner]
        return y

    def _algorithm(self, x: torch.Tensor) -> str:
        N, C = self.features
        return _algorithm_in(x.dtype, C, N, *x.shape[2:], self.lean)

    def _convolve(self, x: torch.Tensor, passes: torch.Tensor | None, chosen: str, relu: bool) -> torch.Tensor:
        if chosen == "winograd":
            N, C = self.features
            kept = keeps_products(C, N, *x.shape[2:], self.lean)
            return winograd(x, self.products, self.bias, self.numbers, passes, relu, kept)
        order = layout(x.dtype, chosen)
        x = arranged(_positive(x, passes), order)
        if order == torch.channels_last and self.lays_out:
            return self.laid_out(x, self.bias, relu)
        if chosen == "nnpack":
            y = nnpack()(x, self.weight, self.bias, [1, 1], [1, 1])
        else:
            y = convolve(x, self.weight, self.bias)
        return y.relu_() if relu else y


class Rotated(Kernels):
    """The kernels of the gradient: rotated by 180°, their two channel axes swapped; the bias is 0.

    Winograd's form of them is that of the others, read at the reciprocal numbers.
    """

    numbers = RECIPROCALS

    def __init__(self, others: Kernels) -> None:
        self.others, self.features, self.lean = others, others.features[::-1], others.lean
        self.plain = partial(_rotated, others.plain)
        self.lays_out, self.laid_out = can_lay_out(others.dtype), LaidOut(self.plain)

    @cached_property
    def bias(self) -> torch.Tensor:
        return self.others.bias.new_zeros(self.features[0])

    @cached_property
    def products(self) -> Products:
        return self.others.products.transposed()


def _rows(x: torch.Tensor, passes: torch.Tensor | None, rows: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
    return x[:, :, rows], None if passes is None else passes[:, :, rows]


def _positive(x: torch.Tensor, passes: torch.Tensor | None) -> torch.Tensor:
    return x if passes is None else where_positive(x, passes)


def _plain(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return weight.to(dtype).contiguous()


def _rotated(plain: Callable[[], torch.Tensor]) -> torch.Tensor:
    return plain().flip(2, 3).transpose(0, 1).contiguous()


def in_strips(H: int, W: int, features: int) -> Iterator[tuple[slice, slice, slice]]:
    """Rows that come one after the other, the window of rows that a convolution needs for them, and they in it.

    All windows are equally high, so that weights are laid out once; the rows begin at an even number.

    >>> [(window.start, window.stop, inner.start, inner.stop) for _, window, inner in in_strips(300, 256, 64)]
    [(0, 102, 0, 100), (99, 201, 1, 101), (198, 300, 2, 102)]
    """
    count = -(-features * H * W // IN_STRIP)
    high = -(-H // (2 * count)) * 2
    if high + 2 > H:
        yield (slice(0, H),) * 3
        return
    for top in range(0, H, high):
        bottom, first = min(top + high, H), min(max(top - 1, 0), H - high - 2)
        yield slice(top, bottom), slice(first, first + high + 2), slice(top - first, bottom - first)


class Convolution:
    """A convolution with frozen weights: `forward` for activations, `backward` for gradients.

    parts: of which the input's features are sums, one after the other; see `InTwoParts`. lean: see `algorithm`.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        dtype: torch.dtype | None = None,
        parts: int = 1,
        lean: bool = False,
    ) -> None:
        weight, bias = weight.detach(), bias.detach()
        self.made_of, self.options = (weight, version_of(weight), bias, version_of(bias)), (dtype, parts, lean)
        weight = torch.cat([weight] * parts, dim=1) if parts > 1 else weight
        self.forward = Kernels(weight, bias, dtype, lean)
        self.backward = Rotated(self.forward)

    def __reduce__(self) -> tuple:
        """Copied and stored as what it was made of: weights that are laid out can be neither."""
        weight, _, bias, _ = self.made_of
        return Convolution, (weight, bias, *self.options)

    def is_of(self, weight: torch.Tensor, bias: torch.Tensor) -> bool:
        """Whether it was made from these tensors, and they have not changed since."""
        before, version, bias_before, bias_version = self.made_of
        same = before.data_ptr() == weight.data_ptr() and bias_before.data_ptr() == bias.data_ptr()
        known = None not in (version, bias_version)
        return same and known and (version_of(weight), version_of(bias)) == (version, bias_version)
