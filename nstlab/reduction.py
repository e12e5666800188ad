"""Smaller networks: `reduced(net, settings, pictures)` makes of a VGG19 another one that takes its place.

What is removed is really gone: a network that lost channels has smaller tensors, takes fewer multiply-adds and
is a VGG19 everywhere. Nothing is trained. Channels are removed from the front to the back, each layer judged by
what the layers before it have become; the next layer takes over what the removed channels did as far as the
technique knows it, and with `refit` as far as least squares can make it.

| `reduction` | which channels stay | what the others leave behind |
| --- | --- | --- |
| distinctiveness | those at the largest angles to each other | their outgoing weights, added to their nearest's |
| magnitude | the largest ‖W_c‖₁, incoming weights | nothing |
| contribution | the largest E|a_c|·‖W_next,c‖₁ | nothing |
| sensitivity | the largest |mean a_c·∂L/∂a_c|, L the loss of the transfer | nothing |
| random | any, from `seed` | nothing |
| weight_sharing | all; see nstlab.codebooks | |
| minimal_effort | all; see nstlab.minimal_effort | |
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d, pad

from nstlab.codebooks import coded_bytes, prune, share
from nstlab.distinctiveness import Selection, chosen, merge
from nstlab.settings import CHANNEL_REDUCTIONS, RequestError, Settings
from nstlab.vgg19 import VGG19
from nstlab.weights import Weights, convolutions, sha256_of_tensors

POSITIONS = 8192  # of an activation vector, at most: angles change by less than a degree beyond
REFIT_POSITIONS = 2048  # of a least-squares fit, at most
LEAST_POSITIONS = 16  # fewer do not tell channels apart
RIDGE = 0.03  # how strongly a refit holds on to the weights as they were; see `refitted`


def reduced(
    net: VGG19,
    settings: Settings,
    pictures: Sequence[torch.Tensor] = (),
    derivatives: Mapping[str, torch.Tensor] | None = None,
    record: dict[str, Selection] | None = None,
) -> VGG19:
    """The network that `settings.reduction` makes of the full one; the full one itself where nothing is removed.

    pictures: (1, 3, H, W) in [0, 1] each, that channels are judged by; derivatives: what sensitivity needs, as
    `gate_derivatives` gives it; record: takes every layer's Selection, conv name -> which channels were merged.
    Raises RequestError for an amount that leaves a layer without a channel, or pictures that are too small.

    >>> net = load_vgg19("random", device="cpu")
    >>> half = reduced(net, Settings(reduction="magnitude", amount=0.5), [torch.rand(1, 3, 64, 64)])
    >>> half.layer("conv4_1").features, half.layer("conv4_1").parameters
    (256, 295168)
    """
    if settings.reduction in CHANNEL_REDUCTIONS:
        if settings.amount == 0 and settings.angle is None:
            return net
        return _Shrinking(net, settings, pictures, derivatives).run(record if record is not None else {})
    if settings.reduction == "weight_sharing":
        return _with_shared_weights(net, settings)
    if settings.reduction == "minimal_effort":
        sparing = copy.copy(net)
        sparing.gradient_kept = settings.gradient_kept
        return sparing
    return net


@dataclass(frozen=True)
class Cost:
    """What a network costs, as far as a transfer uses it.

    parameters: weights and biases that are not 0; multiply_adds: of one forward pass in dense arithmetic;
    coded_bytes: the size of the file, Huffman-coded, or None where no weights are shared.
    """

    parameters: int
    multiply_adds: int
    coded_bytes: int | None


def cost(net: VGG19, height: int, width: int, deepest: str = "relu5_1", coded: bool = False) -> Cost:
    """The cost of a network's layers up to `deepest` for a picture of height x width pixels.

    coded: whether to work out the coded size too, which takes a second.

    >>> cost(load_vgg19("random", device="cpu"), 224, 224).multiply_adds
    18121162752
    """
    layers = [layer for layer in net.layers[: net.layer(deepest).index] if layer.kind == "conv"]
    weights = [getattr(net, f"{layer.name}_weight") for layer in layers]
    biases = [getattr(net, f"{layer.name}_bias") for layer in layers]
    return Cost(
        parameters=sum(int(weight.count_nonzero()) for weight in weights) + sum(bias.numel() for bias in biases),
        multiply_adds=sum(layer.multiply_adds(height, width) for layer in layers),
        coded_bytes=coded_bytes(weights, biases) if coded else None,
    )


def gate_derivatives(
    net: VGG19, x: torch.Tensor, loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Σ over positions of a_c·∂L/∂a_c for each channel of each convolution, (N,), by the convolution's name.

    It is minus the loss's first-order change when the channel is gated to 0 (Molchanov et al. 2017, eq. 8;
    Mozer & Smolensky 1989's relevance to first order). x: the picture in grey levels at which it is taken;
    loss: a scalar from all activations by name. A layer that the loss does not depend on has zeros.

    >>> net = load_vgg19("random", device="cpu")
    >>> found = gate_derivatives(net, torch.rand(1, 3, 32, 32), lambda F: F["relu1_1"].sum())
    >>> len(found["conv1_1"]), float(found["conv1_2"].abs().sum())
    (64, 0.0)
    """
    with torch.enable_grad():
        F = {layer.name: a for layer, a in net.sequence(x.detach().clone().requires_grad_())}
        inside = {name: a for name, a in F.items() if name.startswith("relu")}
        gradients = torch.autograd.grad(loss(F), list(inside.values()), allow_unused=True)
    found = {}
    for (name, a), g in zip(inside.items(), gradients, strict=True):
        product = torch.zeros_like(a) if g is None else a.detach() * g
        found["conv" + name[4:]] = product.sum((0, 2, 3))
    return found


def channel_weights(selections: Mapping[str, Selection], technique: str) -> dict[str, torch.Tensor]:
    """c_l, (n,), for every layer that lost channels: what each that stayed counts in a loss.

    A merged one counts for all that it stands for, c = √Σα²: with exact duplicates both the content and the
    Gram loss are then what they were. Elsewhere the kept are a sample of all, c = √(N/n), and the mean over
    them stands for the mean over all.
    """
    weights = {}
    for name, selection in selections.items():
        n, N = selection.T.shape
        c = selection.weights if technique == "distinctiveness" else torch.full_like(selection.weights, (N / n) ** 0.5)
        for kind in ("conv", "relu"):
            weights[kind + name[4:]] = c
        if name in _LAST_OF_BLOCK:
            weights["pool" + name[4]] = c
    return weights


_LAST_OF_BLOCK = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")


class _Shrinking:
    """Removes channels layer by layer, carrying the pictures through the full and the reduced network."""

    def __init__(
        self,
        net: VGG19,
        settings: Settings,
        pictures: Sequence[torch.Tensor],
        derivatives: Mapping[str, torch.Tensor] | None,
    ) -> None:
        self.net, self.settings, self.derivatives = net, settings, derivatives
        if not pictures:
            raise RequestError(f"reduction={settings.reduction} needs pictures to judge the channels by")
        self.full = [net.prepare(picture.to(net.mean)) for picture in pictures]
        self.small = list(self.full)
        self.names = [name for name, _, _ in convolutions()]
        keys = [f"{name}.{part}" for name in self.names for part in ("weight", "bias")]
        self.tensors = {key: getattr(net, key.replace(".", "_")).clone() for key in keys}
        self.generator = torch.Generator().manual_seed(settings.seed)

    @torch.no_grad()
    def run(self, record: dict[str, Selection]) -> VGG19:
        for name, following in zip(self.names, [*self.names[1:], None], strict=True):
            self._forward(name)
            if int(name[4]) in self.settings.reduced_blocks:
                record[name] = self._select(name, following)
                self._apply(record[name], name, following)
            if self.settings.refit and following and self.small[0].shape[1] < self.full[0].shape[1]:
                self._refit(following)
        weights = Weights(self.tensors, tuple(self.net.mean.tolist()), sha256_of_tensors(self.tensors))
        small = VGG19(weights, self.net.pooling, self.net.convolution, self.net.precision).to(self.net.mean).eval()
        small.channel_weights = channel_weights(record, self.settings.reduction)
        return small

    def _forward(self, name: str) -> None:
        """Both networks' activations as the next convolution sees them: convolution, ReLU, and pooling if any."""
        W, b = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        self.small = [conv2d(x, W, b, padding=1).relu() for x in self.small]
        W, b = getattr(self.net, f"{name}_weight"), getattr(self.net, f"{name}_bias")
        self.full = [conv2d(x, W, b, padding=1).relu() for x in self.full]
        if name in _LAST_OF_BLOCK and name != self.names[-1]:
            self.small, self.full = (
                [self.net.apply_layer(f"pool{name[4]}", x) for x in those] for those in (self.small, self.full)
            )

    def _select(self, name: str, following: str | None) -> Selection:
        a = _sampled(self.small, POSITIONS)  # (N, P)
        if a.shape[1] < LEAST_POSITIONS:
            raise RequestError(
                f"the calibration pictures are too small: {name} has {a.shape[1]} positions in them and needs "
                f"{LEAST_POSITIONS}; take a larger size, calibration=samples, or earlier reduced_blocks"
            )
        N = len(a)
        count = round((1 - self.settings.amount) * N)
        if count < 1:
            raise RequestError(f"amount = {self.settings.amount} would leave {name} none of its {N} channels")
        outgoing = self.tensors[f"{following}.weight"].transpose(0, 1) if following else torch.ones_like(a[:, :1])
        if self.settings.reduction == "distinctiveness":
            return _as(merge(a, outgoing, count, self.settings.angle), a)
        return chosen(self._scores(name, a, outgoing), count)

    def _scores(self, name: str, a: torch.Tensor, outgoing: torch.Tensor) -> torch.Tensor:
        """(N,): the higher, the more a channel matters to this technique."""
        technique = self.settings.reduction
        if technique == "random":
            return torch.rand(len(a), generator=self.generator).to(a)
        if technique == "magnitude":
            return self.tensors[f"{name}.weight"].abs().sum((1, 2, 3))
        if technique == "sensitivity":
            if self.derivatives is None:
                raise RequestError("reduction=sensitivity needs the derivatives of a loss: see gate_derivatives")
            return self.derivatives[name].abs().to(a)
        return a.abs().mean(1) * outgoing.abs().flatten(1).sum(1)

    def _apply(self, selection: Selection, name: str, following: str | None) -> None:
        """Take the channels away: here rows of W and b, in the next layer columns of W."""
        keep = selection.keep
        for part in ("weight", "bias"):
            self.tensors[f"{name}.{part}"] = self.tensors[f"{name}.{part}"][keep].contiguous()
        self.small = [x[:, keep].contiguous() for x in self.small]
        if following is None:
            return
        W = self.tensors[f"{following}.weight"]  # (O, N, 3, 3)
        self.tensors[f"{following}.bias"] = self.tensors[f"{following}.bias"] + W.sum((2, 3)) @ selection.shift
        self.tensors[f"{following}.weight"] = torch.einsum("onhw,kn->okhw", W, selection.T).contiguous()

    def _refit(self, following: str) -> None:
        W, b = self.tensors[f"{following}.weight"], self.tensors[f"{following}.bias"]
        W_full, b_full = getattr(self.net, f"{following}_weight"), getattr(self.net, f"{following}_bias")
        X = _patches(self.small, REFIT_POSITIONS)  # (9n, P)
        Y = W_full.flatten(1) @ _patches(self.full, REFIT_POSITIONS) + b_full[:, None]
        W_new, b_new = refitted(W.flatten(1), b, X, Y)
        self.tensors[f"{following}.weight"] = W_new.view_as(W).contiguous()
        self.tensors[f"{following}.bias"] = b_new


def refitted(
    W: torch.Tensor, b: torch.Tensor, X: torch.Tensor, Y: torch.Tensor, ridge: float = RIDGE
) -> tuple[torch.Tensor, torch.Tensor]:
    """W (O, K) and b (O,) moved so that W X + b comes near Y: ridge regression around what they were.

    X: (K, P) inputs; Y: (O, P) what the outputs should be. Minimises ‖W'X + b' - Y‖² + λ‖(W', b') - (W, b)‖²,
    λ = ridge times the mean squared length of a column of X: there are often fewer positions than weights, and
    where the data say nothing the weights stay.

    >>> refitted(torch.zeros(1, 1), torch.zeros(1), torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 7.0]]), 1e-12)
    (tensor([[2.]]), tensor([3.]))
    """
    level = (
        X.double().square().mean().sqrt().clamp_min(1e-12)
    )  # a bias is an input that is constant, as strong as the others
    X_, R = torch.cat([X.double(), level.expand(1, X.shape[1])]), (Y - W @ X - b[:, None]).double()
    K, P = X_.shape
    λ = ridge * X_.square().sum() / P
    if P < K:
        system = X_.T @ X_
        system.diagonal().add_(λ)
        change = torch.linalg.solve(system, R.T).T @ X_.T
    else:
        system = X_ @ X_.T
        system.diagonal().add_(λ)
        change = torch.linalg.solve(system, X_ @ R.T).T
    return W + change[:, :-1].to(W), b + (change[:, -1] * level).to(b)


def _as(selection: Selection, like: torch.Tensor) -> Selection:
    return Selection(selection.keep, selection.T.to(like), selection.shift.to(like))


def _places(x: Sequence[torch.Tensor], most: int) -> list[torch.Tensor]:
    """At most about `most` positions of some activations, drawn the same way each time: for each, flat indices."""
    sizes = [t.shape[2] * t.shape[3] for t in x]
    draw = torch.Generator().manual_seed(0)
    shares = [min(size, -(-most * size // sum(sizes))) for size in sizes]
    return [
        torch.randperm(size, generator=draw)[:count].sort().values.to(t.device)
        for t, size, count in zip(x, sizes, shares, strict=True)
    ]


def _sampled(x: Sequence[torch.Tensor], most: int) -> torch.Tensor:
    """Activation vectors (N, P) over the positions of several activations (1, N, H, W)."""
    return torch.cat([t.flatten(2)[0][:, at] for t, at in zip(x, _places(x, most), strict=True)], dim=1)


def _patches(x: Sequence[torch.Tensor], most: int) -> torch.Tensor:
    """What a 3x3 convolution sees at those positions: (9N, P), a border of zeros around each activation."""
    found = []
    for t, at in zip(x, _places(x, most), strict=True):
        windows = pad(t, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)[0]  # (N, H, W, 3, 3), no copy
        found.append(windows[:, at // t.shape[3], at % t.shape[3]])  # (N, P, 3, 3)
    return torch.cat(found, dim=1).permute(0, 2, 3, 1).flatten(0, 2)


def _with_shared_weights(net: VGG19, settings: Settings) -> VGG19:
    tensors = {}
    for name, _, _ in convolutions():
        weight = prune(getattr(net, f"{name}_weight"), settings.sparsity)
        tensors[f"{name}.weight"] = share(weight, settings.bits) if settings.bits else weight
        tensors[f"{name}.bias"] = getattr(net, f"{name}_bias").clone()
    weights = Weights(tensors, tuple(net.mean.tolist()), sha256_of_tensors(tensors))
    return VGG19(weights, net.pooling, net.convolution, net.precision).to(net.mean).eval()
