"""Pictures of any size in bounded memory, exactly: segment by segment, tile by tile.

The network is cut behind each pooling. What goes from one segment into the next is kept whole, since it is small (64,
32, 16 and 8 bytes for each pixel of the picture behind VGG19's four poolings); what is inside a segment is there for
one tile at a time.

*Forward*, each tile is computed with as many positions around it as the segment's convolutions see, two to four, and
cut back to those that it owns. These go into the next segment's input, and into averages over all positions, from
which the losses are made: a Gram matrix can be added up, whatever the parts. *Then* the losses are known, and their
derivative by each average. *Backward*, from the last segment to the first, each tile is computed again, gets the
derivatives of its averages and of its output, and hands one to its input.

So everything is computed twice forward and once backward, which takes half as long again as the whole picture would,
plus the margins. Tiles that see all that they need from the picture itself would overlap by 156 pixels for relu5_1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Protocol

import torch

from nstlab.errors import RequestError
from nstlab.images import Pictures
from nstlab.network import Network, order_of
from nstlab.optimise.losses import CONTENT_LOSSES
from nstlab.optimise.masks import IN, at_layer, inside, weighted
from nstlab.optimise.memory import convolution_of, is_tiled, memory_needed
from nstlab.optimise.objective import TERMS, ContentTerm, Objective, StyleTerm, Term, layers_read, weighted_sum
from nstlab.settings import Settings

Place = tuple[slice, slice]
"""Rows and columns of a layer's positions."""


@dataclass(frozen=True)
class Span:
    """One side of a tile, in positions of a segment's input: it owns first ... last of `length`, and sees low ... high.

    All are multiples of the segment's stride, but for the end of the picture.
    """

    first: int
    last: int
    low: int
    high: int
    length: int

    def owned(self, stride: int) -> slice:
        """What it owns of what is computed from low ... high, in a layer of this stride."""
        return slice((self.first - self.low) // stride, self._end(self.last - self.low, stride))

    def placed(self, stride: int) -> slice:
        """The same in the whole layer."""
        return slice(self.first // stride, self._end(self.last, stride))

    def _end(self, at: int, stride: int) -> int | None:
        return None if self.last == self.length else at // stride


@dataclass(frozen=True)
class Tile:
    """A rectangle of a segment's input."""

    rows: Span
    columns: Span

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """What it sees of the input (1, N, H, W), a view."""
        return x[:, :, self.rows.low : self.rows.high, self.columns.low : self.columns.high]

    def owned(self, activation: torch.Tensor, stride: int) -> torch.Tensor:
        """What it owns of an activation computed from what it sees."""
        return _Part.apply(activation, (self.rows.owned(stride), self.columns.owned(stride)))

    def place(self, stride: int) -> Place:
        """Where that is in the whole activation."""
        return self.rows.placed(stride), self.columns.placed(stride)


@dataclass(frozen=True)
class Segment:
    """The functions behind layer `start` (None: from the picture on) up to layer `end`.

    at: the stride of its input; stride: of its output relative to that; before, behind: how many positions of its
    input one of its output sees besides the `stride` that it stands for; strides: relative to its input, of its layers
    that are read and of `end`.
    """

    start: str | None
    end: str
    at: int
    stride: int
    before: int
    behind: int
    strides: Mapping[str, int]

    def tiles(self, shape: Sequence[int], side: int) -> list[Tile]:
        """The tiles of an input of height x width `shape`; side: in pixels, where the stride is 1."""
        rows, columns = (self._spans(length, side) for length in shape)
        return [Tile(row, column) for row in rows for column in columns]

    def sides(self, side: int) -> tuple[int, int, int]:
        """Of a tile that is not at the picture's edge: how many positions it owns, and sees before and behind them.

        Multiples of the stride, so that poolings fall into place.
        """
        r, side = self.stride, side_within(side, self.at)
        return max(side // r, 1) * r, -(-self.before // r) * r, -(-self.behind // r) * r

    def _spans(self, length: int, side: int) -> list[Span]:
        step, before, behind = self.sides(side)
        edges = [*range(0, max(length - self.stride + 1, 1), step), length]  # what is left over goes to the last one
        return [Span(a, b, max(a - before, 0), min(b + behind, length), length) for a, b in pairwise(edges)]


def side_within(side: int, stride: int) -> int:
    """The side of a tile in positions of this stride. Where there are fewer positions a tile may cover more of them.

    >>> [stride * side_within(512, stride) for stride in (1, 2, 4, 8, 16)]
    [512, 724, 1024, 1448, 2048]
    """
    return max(int(side / stride**0.5), 1)


def margins(net: Network, side: int, read: Collection[str]) -> float:
    """What the positions around tiles of this side add to the multiply-adds of a large picture, relative to them."""
    own = extra = 0.0
    for segment in segments_of(net, read):
        first = net.layer(segment.start).index if segment.start else 0
        work = sum(layer.multiply_adds(1024, 1024) for layer in net.layers[first : net.layer(segment.end).index])
        step, before, behind = segment.sides(side)
        own, extra = own + work, extra + work * ((1 + (before + behind) / step) ** 2 - 1)
    return extra / own


def segments_of(net: Network, read: Collection[str]) -> list[Segment]:
    """The network up to the deepest of the layers `read`, cut wherever its resolution falls; none if none is read.

    >>> from nstlab.network import load_vgg19
    >>> for s in segments_of(load_vgg19("random", device="cpu"), ["relu1_1", "relu3_1"]):
    ...     print(s.start, s.end, s.stride, s.before, s.behind, s.strides)
    None pool1 2 2 2 {'relu1_1': 1, 'pool1': 2}
    pool1 pool2 2 2 2 {'pool2': 2}
    pool2 relu3_1 1 1 1 {'relu3_1': 1}
    """
    layers = net.layers[: max((net.layer(name).index for name in read), default=0)]
    if not layers:
        return []
    ends = [layer for last, layer in pairwise(layers) if layer.stride > last.stride]
    ends += [layers[-1]] if not ends or ends[-1] is not layers[-1] else []
    found, start = [], None
    for end in ends:
        before, field, s, index = 0, 1, 1, 0  # the picture's
        if start:
            before, field, s, index = start.before, start.receptive_field, start.stride, start.index
        stride, ahead = end.stride // s, (end.before - before) // s
        window = (end.receptive_field - field) // s + 1  # positions of the input that one of the output sees
        inside_it = layers[index : end.index]
        strides = {layer.name: layer.stride // s for layer in inside_it if layer.name in read or layer is end}
        found.append(Segment(start and start.name, end.name, s, stride, ahead, window - stride - ahead, strides))
        start = end
    return found


See = Callable[[str, torch.Tensor, Place], None]
"""Gets a layer's name, the part (1, N, h, w) of its activation that a tile owns, and where that is."""


class Tiles:
    """How a network is applied to pictures tile by tile. side: of a tile in the first segment, in pixels.

    on_tile: called after each tile.
    """

    def __init__(self, net: Network, side: int) -> None:
        self.net, self.side = net, side
        self.on_tile: Callable[[], None] = lambda: None

    def forward(self, x: torch.Tensor, read: Collection[str], see: See, keep: bool = False) -> list[torch.Tensor]:
        """Show `see` all activations of the layers `read`, part by part; `keep`: return the segments' inputs."""
        inputs, segments = [], segments_of(self.net, read)
        with torch.no_grad():
            for segment in segments:
                output = None
                for tile, parts in self._tiles(segment, x):
                    for name, F in parts(tile.seen(x)):
                        place = tile.place(segment.strides[name])
                        if name in read:
                            see(name, F, place)
                        if name == segment.end and segment is not segments[-1]:
                            if output is None:
                                output = _empty_like(F, [side // segment.stride for side in x.shape[2:]])
                            output[:, :, *place] = F
                    self.on_tile()
                if keep:
                    inputs.append(x)
                x = output
        return inputs

    def backward(
        self,
        inputs: list[torch.Tensor],
        read: Collection[str],
        sums: Callable[[str, torch.Tensor, Place], tuple[list[torch.Tensor], list[torch.Tensor]]],
    ) -> torch.Tensor:
        """The gradient by the first of the segments' `inputs`, which are used up.

        sums: gets what `See` gets, and returns tensors made of it, with the loss's derivative by each of them.
        """
        by_output = None
        for segment in reversed(segments_of(self.net, read)):
            x = inputs.pop()
            by_input = torch.zeros_like(x)
            for tile, parts in self._tiles(segment, x):
                seen = tile.seen(x).detach().requires_grad_()
                made, derivatives = [], []
                with torch.enable_grad():
                    for name, F in parts(seen):
                        place = tile.place(segment.strides[name])
                        if name in read:
                            some, theirs = sums(name, F, place)
                            made += some
                            derivatives += theirs
                        if name == segment.end and by_output is not None:
                            made.append(F)
                            derivatives.append(by_output[:, :, *place])
                    del F
                torch.autograd.backward(made, derivatives)
                tile.seen(by_input).add_(seen.grad)
                self.on_tile()
            by_output = by_input
        return by_output

    def count(self, shape: Sequence[int], read: Collection[str]) -> int:
        """How many tiles an evaluation of a picture of height x width `shape` takes."""
        found = 0
        for segment in segments_of(self.net, read):
            found += 2 * len(segment.tiles(shape, self.side))
            shape = [side // segment.stride for side in shape]
        return found

    def _tiles(
        self, segment: Segment, x: torch.Tensor
    ) -> Iterator[tuple[Tile, Callable[[torch.Tensor], Iterator[tuple[str, torch.Tensor]]]]]:
        """Each tile, and a function from what it sees to (layer, the part of its activation that the tile owns)."""
        for tile in segment.tiles(x.shape[2:], self.side):

            def parts(seen: torch.Tensor, tile: Tile = tile) -> Iterator[tuple[str, torch.Tensor]]:
                for name, activation in self.net.activations(seen, keep=segment.strides, after=segment.start):
                    yield name, tile.owned(activation, segment.strides[name])

            yield tile, parts


class TiledTerm(Term, Protocol):
    """A term that can be computed from averages over positions."""

    def averages(
        self, name: str, F: torch.Tensor, place: Place, known: list[torch.Tensor] | None
    ) -> list[torch.Tensor]:
        """What a part of a layer's activation adds to the averages; known: those of the whole, once they are."""

    def of_averages(self, name: str, averages: list[torch.Tensor]) -> torch.Tensor:
        """The layer's part of the loss, a scalar."""


class TiledContent(ContentTerm):
    """C, added up from tiles; the content picture's activations are kept whole."""

    def __init__(self, net: Network, pictures: Pictures, settings: Settings, tiles: Tiles) -> None:
        if settings.content_loss not in CONTENT_LOSSES:
            raise RequestError(f"content_loss={settings.content_loss} cannot be added up from tiles: leave tile out")
        self.tiles = tiles
        super().__init__(net, pictures, settings)

    def _targets(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}

        def see(name: str, F: torch.Tensor, place: Place) -> None:
            if name not in found:
                found[name] = _empty_like(F, self.net.layer(name).size(*x.shape[2:]))
            found[name][:, :, *place] = F

        self.tiles.forward(x, self.layers, see)
        return found

    def averages(
        self, name: str, F: torch.Tensor, place: Place, known: list[torch.Tensor] | None
    ) -> list[torch.Tensor]:
        P = self.P[name][:, :, *place]
        return [self.loss(self.counted(name, F), P) * (P.numel() / self.P[name].numel())]

    def of_averages(self, name: str, averages: list[torch.Tensor]) -> torch.Tensor:
        return self.portion(name, 1) * averages[0]


View = tuple[torch.Tensor | None, int]
"""What a mask does to a layer: factors (1, 1, H, W), or which positions are in, or None; how many there are."""


class TiledStyle(StyleTerm):
    """S from statistics that are made of averages."""

    def __init__(self, net: Network, pictures: Pictures, settings: Settings, tiles: Tiles) -> None:
        self.tiles, self.shape = tiles, tuple(pictures.content.shape[2:])
        self._views: dict[tuple[str, int], View] = {}
        super().__init__(net, pictures, settings)

    def _statistics(self, x: torch.Tensor, t: torch.Tensor | None) -> dict[str, torch.Tensor]:
        if self.compare.averages is None or self.compare.masking not in (weighted, inside):
            raise RequestError(
                f"style_loss={self.settings.style_loss} sorts or samples positions and cannot be added up from tiles: "
                "choose another, or leave tile out"
            )
        found: dict[str, torch.Tensor] = {}

        def see(name: str, F: torch.Tensor, place: Place) -> None:
            part = self._average(name, F, place, self._view(name, t, x.shape[2:]), None)
            found[name] = found[name] + part if name in found else part

        self.tiles.forward(x, self.layers, see)
        return {name: self.compare.averages.statistic(average) for name, average in found.items()}

    def _view(self, name: str, t: torch.Tensor | None, shape: Sequence[int]) -> View:
        """How a mask acts on a layer, for a picture of this shape."""
        size = self.net.layer(name).size(*shape)
        if t is None:
            return None, size[0] * size[1]
        if (name, id(t)) not in self._views:
            t_l = at_layer(t, size, self.net.mean)
            if self.compare.masking is weighted:
                self._views[name, id(t)] = weighted(torch.ones_like(t_l), t_l), t_l.numel()
            else:
                within = t_l >= IN * t_l.max()
                self._views[name, id(t)] = within, int(within.sum())
        return self._views[name, id(t)]

    def _average(
        self,
        name: str,
        F: torch.Tensor,
        place: Place,
        view: View,
        known: torch.Tensor | None,
    ) -> torch.Tensor:
        of_positions, count = view
        if of_positions is not None:
            of_positions = of_positions[:, :, *place]
            F = F[:, :, of_positions[0, 0]] if of_positions.dtype == torch.bool else F * of_positions
        F = self.counted(name, F.flatten(2).unsqueeze(2)).squeeze(2).squeeze(0)
        return self.compare.averages.summed(F, known) / count

    def averages(
        self, name: str, F: torch.Tensor, place: Place, known: list[torch.Tensor] | None
    ) -> list[torch.Tensor]:
        return [
            self._average(name, F, place, self._view(name, t, self.shape), known and known[i])
            for i, t in enumerate(self.views)
        ]

    def of_averages(self, name: str, averages: list[torch.Tensor]) -> torch.Tensor:
        statistics = [self.compare.averages.statistic(average) for average in averages]
        return self.of_statistics(name, statistics)


TILED = {"content": TiledContent, "style": TiledStyle}
"""The terms that read layers, by name, as they are computed in tiles."""


class TiledObjective(Objective):
    """The same losses and the same gradient as those of `Objective`, in bounded memory; see this module.

    Whole are pictures that fit into one tile, and with `scales` the smaller ones that take no more memory whole than
    the last in tiles. on_tile: called with how many tiles of an evaluation are done, and how many there are.
    """

    def __init__(self, net: Network, pictures: Pictures | Sequence[Pictures], settings: Settings) -> None:
        self.tiles = Tiles(net, settings.tile)
        self.on_tile: Callable[[int, int], None] = lambda done, of: None
        super().__init__(net, pictures, settings)
        *smaller, largest = (tuple(p.content.shape[2:]) for p in self.pictures)
        most = memory_needed(settings, *largest)
        whole = settings.with_(tile=None, convolution=convolution_of(settings, *largest))
        self._whole = {shape for shape in smaller if memory_needed(whole, *shape) <= most}

    def _make(self, name: str, net: Network, pictures: Pictures) -> Term:
        if name in TILED:
            return TILED[name](net, pictures, self.settings, self.tiles)
        term = TERMS[name](net, pictures, self.settings)
        if term.layers:
            raise RequestError(f"the term {name} cannot be added up from tiles: leave tile out")
        return term

    def __call__(self, x: torch.Tensor, weights: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
        if not is_tiled(self.settings, *x.shape[2:]) or tuple(x.shape[2:]) in self._whole:
            return super().__call__(x, weights)
        x, weights = self.painted(x), weights or self.settings.term_weights()
        terms = self.terms_of(x.shape[2:])
        tiled = {name: term for name, term in terms.items() if term.layers}
        read = layers_read(tiled)
        done, of = count(1), self.tiles.count(x.shape[2:], read)
        self.tiles.on_tile = lambda: self.on_tile(next(done), of)
        averages: dict[tuple[str, str], list[torch.Tensor]] = {}

        def see(layer: str, F: torch.Tensor, place: Place) -> None:
            for name, term in tiled.items():
                if layer in term.layers:
                    part = term.averages(layer, F, place, None)
                    before = averages.get((name, layer))
                    averages[name, layer] = [a + b for a, b in zip(before, part, strict=True)] if before else part

        backward = x.requires_grad and torch.is_grad_enabled()
        inputs = self.tiles.forward(x.detach(), read, see, keep=backward)
        leaves = {key: [a.detach().requires_grad_() for a in found] for key, found in averages.items()}
        with torch.enable_grad():
            of_layers = {
                name: {layer: term.of_averages(layer, leaves[name, layer]) for layer in term.layers}
                for name, term in tiled.items()
            }
            losses = {name: term.of_picture(x, of_layers.get(name, {})) for name, term in terms.items()}
        parts = {part: of_layers[name][part].detach() for name, term in tiled.items() for part in term.parts}
        values = {name: loss.detach() if name in tiled else loss for name, loss in losses.items()}
        total = weighted_sum(values, weights)
        if backward:
            flat = [leaf for found in leaves.values() for leaf in found]
            pulled = weighted_sum({name: losses[name] for name in tiled}, weights)
            derivatives = iter(torch.autograd.grad(pulled, flat, materialize_grads=True))
            by_average = {key: [next(derivatives) for _ in found] for key, found in leaves.items()}

            def sums(layer: str, F: torch.Tensor, place: Place) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
                made, theirs = [], []
                for name, term in tiled.items():
                    if layer in term.layers:
                        made += term.averages(layer, F, place, averages[name, layer])
                        theirs += by_average[name, layer]
                return made, theirs

            total = _WithGradient.apply(total, x, self.tiles.backward(inputs, read, sums))
        self.tiles.on_tile = lambda: None  # the targets of a larger size are no part of an evaluation
        return {"total": total, **values, **parts}


def _empty_like(F: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Room for an activation of another height and width, its axes in the same order in memory."""
    return torch.empty((*F.shape[:2], *size), dtype=F.dtype, device=F.device, memory_format=order_of(F))


class _Part(torch.autograd.Function):
    """Rows and columns of an activation (1, N, H, W), with zeros around their gradient: once, not for each axis."""

    @staticmethod
    def forward(ctx, activation: torch.Tensor, place: Place) -> torch.Tensor:
        ctx.shape, ctx.place = activation.shape, place
        return activation[:, :, *place]

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        if g.shape == ctx.shape:
            return g, None
        whole = _empty_like(g, ctx.shape[2:]).zero_()
        whole[:, :, *ctx.place] = g
        return whole, None


class _WithGradient(torch.autograd.Function):
    """A number whose gradient by x is known already."""

    @staticmethod
    def forward(ctx, value: torch.Tensor, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return g, g * gradient, None
