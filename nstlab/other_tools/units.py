"""From other tools' losses to L = C + k_S·S + k_TV·T (notebook 06): each is divided by its content weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nstlab.decoding import shape_of
from nstlab.errors import RequestError
from nstlab.images import find_picture
from nstlab.layers import BLOCKS

Shape = tuple[int, int]
"""Width and height, in pixels."""


def weights(content: Sequence[float], style: Sequence[float], tv: float = 0.0) -> dict[str, Any]:
    """The settings of Σ_c content_c·C_c + Σ_l style_l·S_l + tv·T, with C_c, S_l and T as nstlab defines them.

    nstlab's C is the mean of its layers' C_c, so unequal weights of content layers have no counterpart. k_S is the
    first style layer's weight that is not 0, and style_layer_weights are the others over it.

    >>> weights([2.0], [6.0, 12.0], tv=1.0)
    {'k_S': 3.0, 'k_TV': 0.5, 'style_layer_weights': (1.0, 2.0)}
    """
    whole = sum(content)
    unit = whole or 1.0
    first = next((weight for weight in style if weight), 0.0)
    found: dict[str, Any] = {"k_S": tidy(first / unit), "k_TV": tidy(tv / unit)}
    shares = tuple(tidy(weight / first) if first else 1.0 for weight in style)
    if any(share != 1 for share in shares):
        found["style_layer_weights"] = shares
    return found if whole else found | {"content_layers": ()}


def tidy(number: float) -> float:
    """A number without the last digits, which only rounding made: as it would be typed.

    >>> tidy(0.1 + 0.2)
    0.3
    """
    return float(f"{number:.12g}")


def features(layer: str) -> int:
    """N, the number of features of a layer of VGG19.

    >>> features("relu3_1")
    256
    """
    return BLOCKS[int(layer[4]) - 1][1]


def differences(shape: Shape) -> float:
    """How many differences of neighbours a picture has in one direction: the mean of across and down, 3 channels.

    A sum over them is this times their mean; for a picture that is not square, to |W - H|/(2WH).

    >>> differences((4, 4))
    36.0
    """
    width, height = shape
    return 3 * (height * (width - 1) + (height - 1) * width) / 2


def shape(picture: str) -> Shape | None:
    """Width and height of a picture, or None if it cannot be read."""
    try:
        return shape_of(find_picture(picture))
    except RequestError:
        return None


def longer(of: Shape | None, *, height: int = 0, shorter: int = 0, pixels: int = 0) -> int:
    """The longer side of a picture of this shape (None: a square) with a given height, shorter side or pixel count.

    >>> longer((400, 300), height=150), longer((400, 300), shorter=150), longer((400, 300), pixels=30000)
    (200, 200, 200)
    """
    width, tall = of or (1, 1)
    if pixels:
        height = round((max(pixels, 1) * tall / width) ** 0.5)
    elif shorter:
        return int(shorter * max(width, tall) / min(width, tall))
    return max(height, int(width * height / tall + (0.5 if pixels else 0)))
