"""VGG19's layers by name, without a network."""

from __future__ import annotations

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
"""VGG19's convolutional part: (convolutions, features) of each of its five blocks."""


def layer_names() -> tuple[str, ...]:
    """The 37 layers F1 ... F37 in order: conv1_1, relu1_1, ..., relu5_4, pool5."""
    names: list[str] = []
    for block, (count, _) in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return tuple(names)


def convolutions() -> list[tuple[str, int, int]]:
    """(name, features in, features out) of VGG19's 16 convolutions, in order."""
    features = [3] + [out for count, out in BLOCKS for _ in range(count)]
    names = [name for name in layer_names() if name.startswith("conv")]
    return list(zip(names, features, features[1:], strict=False))
