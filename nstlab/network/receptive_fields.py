"""What one position of a layer sees of the picture: the receptive field, by arithmetic and by gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nstlab.errors import RequestError
from nstlab.network.layer import Layer
from nstlab.network.sequence import Network


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows top ... bottom - 1, columns left ... right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def cut(self, image: torch.Tensor) -> torch.Tensor:
        """The pixels of (1, C, H, W) inside the box: (1, C, height, width)."""
        return image[:, :, self.top : self.bottom, self.left : self.right]


def receptive_box(layer: Layer, row: int, column: int, height: int, width: int) -> Box:
    """The pixels that position (row, column) of a layer sees in a picture of height x width pixels.

    With s the layer's stride and r its receptive field, position i stands for the s pixels i·s ... i·s + s - 1. The
    functions before it widen that by `layer.before` pixels on one side and r - s - `layer.before` on the other, in
    VGG19 (r - s)/2 on both; the picture's border cuts it off.
    Raises RequestError for a position that the layer does not have.

    >>> receptive_box(load_vgg19("random", device="cpu").layer("pool1"), 3, 0, 32, 48)
    Box(top=4, left=0, bottom=10, right=4)
    """
    rows, columns = layer.size(height, width)
    if not (0 <= row < rows and 0 <= column < columns):
        raise RequestError(f"{layer.name} has positions (0, 0) to ({rows - 1}, {columns - 1}), not ({row}, {column})")
    top, left = row * layer.stride - layer.before, column * layer.stride - layer.before
    return Box(
        max(top, 0),
        max(left, 0),
        min(top + layer.receptive_field, height),
        min(left + layer.receptive_field, width),
    )


def position_at(layer: Layer, row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """The position of a layer that stands for pixel (row, column) of a picture of height x width pixels.

    Rows and columns that pooling drops at the far border belong to the last position.
    Raises RequestError for a pixel outside the picture.
    """
    if not (0 <= row < height and 0 <= column < width):
        raise RequestError(f"the picture has pixels (0, 0) to ({height - 1}, {width - 1}), not ({row}, {column})")
    rows, columns = layer.size(height, width)
    ahead = layer.before - (layer.receptive_field - layer.stride) // 2  # 0 where a position sees as far on both sides
    i, j = (row + ahead) // layer.stride, (column + ahead) // layer.stride
    return min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)


def pixel_gradient(
    net: Network, image: torch.Tensor, name: str, row: int, column: int, feature: int | None = None
) -> torch.Tensor:
    """∂a/∂x, (1, 3, H, W): how an activation a at (row, column) of layer `name` responds to each pixel x.

    a is one feature's activation, or the sum over all features for None. Both are in grey levels, so the gradient
    has no unit. It is 0 outside `receptive_box`: autograd alone draws the receptive field.
    Raises RequestError for an unknown layer, position or feature.
    """
    layer = net.layer(name)
    receptive_box(layer, row, column, *image.shape[2:])  # refuses an unknown position
    if feature is not None:
        layer.check_feature(feature)
    with torch.enable_grad():
        x = net.prepare(image).requires_grad_()
        seen = net.plain()(x, keep=[name])[name][0, :, row, column]  # (C,)
        (gradient,) = torch.autograd.grad(seen.sum() if feature is None else seen[feature], x)
    return gradient
