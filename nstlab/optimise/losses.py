"""The losses of neural style transfer: pure functions, activations in, a scalar out.

A style loss compares two *statistics* of activations, which do not say where things are. `STYLE_LOSSES` lists them
by the names of `Settings.style_loss`. Everything random is drawn from a seed, in the same way each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps

import torch
from torch.nn.functional import interpolate, mse_loss

from nstlab.errors import RequestError
from nstlab.network import at_least_float32, in_double, product, symmetric_product
from nstlab.optimise.masks import Masking, inside, weighted
from nstlab.own import function_of, guarded, is_own, load

DIRECTIONS = 32  # that sliced Wasserstein projects onto
IN_FLOAT32 = 2**21  # values in bfloat16 that are made float32 at a time, for a Gram matrix
SAMPLES = 256  # positions that the Gaussian MMD compares, at most


def gram(activation: torch.Tensor) -> torch.Tensor:
    """G = F Fᵀ / M, the (N, N) matrix of how strongly features occur together.

    F is the activation (1, N, H, W) as an N x M matrix, M = H·W. Gatys, Ecker & Bethge 2016, eq. 3, over M.

    >>> gram(torch.ones(1, 2, 3, 3))
    tensor([[1., 1.],
            [1., 1.]])
    """
    F = activation.flatten(2).squeeze(0)
    return _Products.apply(F, getattr(activation.grad_fn, "by_products", None)) / F.shape[1]


def features(activation: torch.Tensor) -> torch.Tensor:
    """An activation (1, N, H, W) as a matrix (N, M), in float32 if it is in bfloat16."""
    return _whole(activation.flatten(2).squeeze(0))


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


class _Products(torch.autograd.Function):
    """F Fᵀ for (N, M), with its gradient as one product, (g + gᵀ) F, instead of autograd's two.

    If features lie side by side in memory, they do so in the gradient too. Products of bfloat16 are added in float32.
    by_products: where whoever computed F takes g + gᵀ instead (see `nstlab.network.fused.ConvolveRelu`).
    """

    @staticmethod
    def forward(ctx, F: torch.Tensor, by_products: list[torch.Tensor] | None = None) -> torch.Tensor:
        ctx.by_products = by_products
        if by_products is None:
            ctx.save_for_backward(F)
        if F.dtype != torch.bfloat16:
            return product(F, F.T)
        return sum(product(part, part.T) for part in map(at_least_float32, F.split(IN_FLOAT32 // len(F), dim=1)))

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        g = g + g.T
        if ctx.by_products is not None:
            ctx.by_products.append(g)
            return None, None
        (F,) = ctx.saved_tensors
        return symmetric_product(g.to(F.dtype), F), None


def content_loss(F: torch.Tensor, P: torch.Tensor) -> torch.Tensor:
    """mean over (C, H, W) of (F - P)², in squared grey levels (Gatys et al. 2016, eq. 1, as a mean).

    >>> content_loss(torch.full((1, 2, 3, 3), 5.0), torch.full((1, 2, 3, 3), 3.0))
    tensor(4.)
    """
    return mse_loss(F.to(P.dtype), P)  # with two types torch 2.11 has no gradient


def style_loss(G: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """mean over (N, N) of ((G - A) / N)², for two Grams (Gatys et al. 2016, eq. 4, in design units).

    >>> style_loss(torch.full((2, 2), 6.0), torch.full((2, 2), 2.0))
    tensor(4.)
    """
    return ((G - A) / G.shape[0]).square().mean()


def absolute_content_loss(F: torch.Tensor, P: torch.Tensor) -> torch.Tensor:
    """mean over (C, H, W) of |F - P|, in grey levels: L1 instead of L2, which forgives single large differences.

    >>> absolute_content_loss(torch.full((1, 2, 3, 3), 5.0), torch.full((1, 2, 3, 3), 3.0))
    tensor(2.)
    """
    return (F - P).abs().mean()


def absolute_style_loss(G: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """mean over (N, N) of |G - A| / N, for two Grams: `style_loss` with L1 instead of L2.

    >>> absolute_style_loss(torch.full((2, 2), 6.0), torch.full((2, 2), 2.0))
    tensor(2.)
    """
    return ((G - A) / G.shape[0]).abs().mean()


def mean_std(activation: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """μ and σ of each feature over the positions, (2, N): Li et al. 2017's batch normalisation statistics.

    σ² is the biased variance plus 10⁻⁶ (so that an inactive feature has a gradient). seed is not used.

    >>> mean_std(torch.tensor([[[[1.0, 3.0]]]])).round()
    tensor([[2.],
            [1.]])
    """
    F = features(activation)
    return torch.stack([F.mean(1), (F.var(1, correction=0) + 1e-6).sqrt()])


def mean_std_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """mean over the N features of (Δμ)² + (Δσ)², in squared grey levels (Li et al. 2017, eq. 10)."""
    return (a - b).square().sum(0).mean()


def samples(activation: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The activation at S = min(M, 256) of its M positions, (S, N), drawn from `seed` without repetition."""
    F = features(activation)
    draw = torch.Generator().manual_seed(seed)
    at = torch.randperm(F.shape[1], generator=draw)[:SAMPLES].sort().values
    return F[:, at.to(F.device)].T.contiguous()


def mmd_gaussian_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """MMD² = E k(x, x') - 2 E k(x, y) + E k(y, y') of two sets of samples, (S, N) and (S', N); from 0 to 2.

    k(x, y) = exp(-‖x - y‖²/(2h²)), h² the mean squared distance within y, the target (Gretton et al. 2012, the
    biased estimator; Li et al. 2017 for style). It compares at distances of about h; far beyond, k and its gradient
    are 0.
    """
    yy = _squared_distances(y, y)
    h = yy.detach().mean().clamp_min(1e-12)
    kernels = [torch.exp(-d / (2 * h)).mean() for d in (_squared_distances(x, x), _squared_distances(x, y), yy)]
    return kernels[0] - 2 * kernels[1] + kernels[2]


def _squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    between = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return between.clamp_min(0)


def projections(activation: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The activation projected onto 32 directions drawn from `seed`, each sorted: (32, M), in grey levels.

    Directions are uniform on the unit sphere of the N features, and the same in every call.
    """
    F = features(activation)
    draw = torch.Generator().manual_seed(seed)
    θ = torch.randn(DIRECTIONS, F.shape[0], generator=draw)
    θ = (θ / θ.norm(dim=1, keepdim=True)).to(F)
    return (θ @ F).sort(dim=1).values


def sliced_wasserstein_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """mean over directions of ‖sort(θᵀF) - sort(θᵀS)‖²/M: squared 2-Wasserstein distances in one dimension.

    a (K, M) and b (K, M'): if M' differs, b's quantiles are interpolated. (Bonneel et al. 2015; Heitz et al. 2021
    for textures.) It is 0 only if both have the same distribution along all these directions.

    >>> sliced_wasserstein_loss(torch.zeros(1, 4), torch.full((1, 2), 3.0))
    tensor(9.)
    """
    if a.shape != b.shape:
        b = interpolate(b[None], a.shape[1], mode="linear", align_corners=False)[0]
    return (a - b).square().mean()


def firing(activation: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """B Bᵀ / M, (N, N), B = 1[F > 0]: the fraction of positions where two features are on together; in [0, 1].

    Its gradient is 0 almost everywhere, so that of σ(F/τ) is passed on instead (straight through; Bengio et al.
    2013), τ the layer's mean |F|. A feature that is off has a gradient in conv layers, but not after a ReLU.
    seed is not used.

    >>> firing(torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]]))
    tensor([[1.0000, 0.5000],
            [0.5000, 0.5000]])
    """
    F = features(activation)
    soft = torch.sigmoid(F / F.detach().abs().mean().clamp_min(1e-12))
    B = soft + ((F > 0).to(F) - soft).detach()
    return _Products.apply(B) / F.shape[1]


def firing_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """mean over (N, N) of the squared difference of how often two features fire together; in [0, 1]."""
    return (a - b).square().mean()


def gaussian(activation: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The mean and the covariance of the N features over the positions, side by side: (N, 1 + N).

    In double precision: the loss takes roots, which magnify what rounding leaves of zero. seed is not used.

    >>> gaussian(torch.tensor([[[[1.0, 3.0]]]]))
    tensor([[2., 1.]], dtype=torch.float64)
    """
    F = in_double(features(activation))
    μ = F.mean(1, keepdim=True)
    return torch.cat([μ, _Products.apply(F - μ) / F.shape[1]], dim=1)


def gaussian_w2_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(‖Δμ‖² + tr(Σ_a + Σ_b - 2 (Σ_b^½ Σ_a Σ_b^½)^½)) / N: the squared 2-Wasserstein distance of two Gaussians.

    a, b: (N, 1 + N), as from `gaussian`; over N, in squared grey levels. (Dowson & Landau 1982.)

    >>> gaussian_w2_loss(torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, 1.0]])).round(decimals=3)
    tensor(5.)
    """
    (μ, Σ), (ν, T) = ((g[:, 0], g[:, 1:]) for g in (a, b))
    λ, V = torch.linalg.eigh(T)
    root = (V * λ.clamp_min(0).sqrt()) @ V.T
    whole = (μ - ν).square().sum() + Σ.trace() + T.trace() - 2 * _TraceOfRoot.apply(root @ Σ @ root)
    return whole / a.shape[0]


class _TraceOfRoot(torch.autograd.Function):
    """tr(S^½) of a symmetric S without negative eigenvalues; its gradient is ½ S^-½, within the space that S spans."""

    @staticmethod
    def forward(ctx, S: torch.Tensor) -> torch.Tensor:
        λ, V = torch.linalg.eigh(S)
        ctx.save_for_backward(λ, V)
        return torch.where(λ > 1e-13 * λ.max(), λ.clamp_min(0).sqrt(), 0.0).sum()

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        λ, V = ctx.saved_tensors
        slope = torch.where(λ > 1e-13 * λ.max(), 0.5 * λ.clamp_min(1e-300).rsqrt(), 0.0)
        return g * (V * slope) @ V.T


@dataclass(frozen=True)
class Averages:
    """A statistic as a function of averages over positions, which can be added up from the parts of a picture.

    summed: features at some positions F (N, M'), and the average over all of them once it is known (None before) ->
    the sum over these positions; statistic: of the average over all.
    """

    summed: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
    statistic: Callable[[torch.Tensor], torch.Tensor]


def _moments(F: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    F = in_double(F)
    return torch.stack([F.sum(1), F.square().sum(1)])


def _mean_std_of_moments(average: torch.Tensor) -> torch.Tensor:
    μ, second = average
    return torch.stack([μ, ((second - μ.square()).clamp_min(0) + 1e-6).sqrt()])


def _on_and_size(F: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    """(N, N + 1): B Bᵀ and, as its last column, the sum of |F|, from which `firing` takes its τ."""
    size = F.detach().abs().sum(1, keepdim=True)
    τ = (size if known is None else known[:, -1]).mean().clamp_min(1e-12)
    soft = torch.sigmoid(F / τ)
    B = soft + ((F > 0).to(F) - soft).detach()
    return torch.cat([_Products.apply(B), size], dim=1)


def _with_ones(F: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    """(1 + N, 1 + N): the products of features, with a first one that is 1 everywhere, so that sums are products."""
    F = in_double(F)
    return _Products.apply(torch.cat([F.new_ones(1, F.shape[1]), F]))


def _gaussian_of_products(average: torch.Tensor) -> torch.Tensor:
    μ = average[1:, :1]
    return torch.cat([μ, average[1:, 1:] - μ @ μ.T], dim=1)


GRAM = Averages(lambda F, known: _Products.apply(F), lambda average: average)


@dataclass(frozen=True)
class StyleLoss:
    """A way to compare styles: the statistic of an activation, given a seed, and the loss of two statistics.

    power: of 1/N in the loss, used to scale a reduced network's loss to the full N; masking: how a mask acts on an
    activation before its statistic (see `nstlab.optimise.masks`); averages: the same statistic from averages over
    positions, if it can be (for `nstlab.optimise.tiles`).
    """

    statistic: Callable[[torch.Tensor, int], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    power: int = 0
    masking: Masking = inside
    averages: Averages | None = None


def _gram(activation: torch.Tensor, seed: int) -> torch.Tensor:
    return gram(activation)


STYLE_LOSSES = {
    "gram": StyleLoss(_gram, style_loss, 4, weighted, GRAM),
    "gram_l1": StyleLoss(_gram, absolute_style_loss, 3, weighted, GRAM),
    "mean_std": StyleLoss(mean_std, mean_std_loss, 1, averages=Averages(_moments, _mean_std_of_moments)),
    "mmd_gaussian": StyleLoss(samples, mmd_gaussian_loss, 0),
    "sliced_wasserstein": StyleLoss(projections, sliced_wasserstein_loss, 1),
    "binarised": StyleLoss(firing, firing_loss, 2, averages=Averages(_on_and_size, lambda average: average[:, :-1])),
    "gaussian_w2": StyleLoss(gaussian, gaussian_w2_loss, 1, averages=Averages(_with_ones, _gaussian_of_products)),
}
"""By the names of `Settings.style_loss`."""


def style_loss_of(name: str) -> StyleLoss:
    """The style loss that a name in STYLE_LOSSES, or a `path/to/mine.py:name`, stands for.

    Of your own it must be a `StyleLoss`. Raises RequestError if it is none, and while it is used RunError, in one
    line with file and line, if its functions fail or give something else than they should.
    """
    if not is_own(name):
        return STYLE_LOSSES[name]
    expected = "a StyleLoss(statistic, loss): activation (1, N, H, W), seed -> statistic; two statistics -> a scalar"
    found = load(name, expected)
    if not isinstance(found, StyleLoss):
        raise RequestError(f"{name} is {type(found).__name__}; expected {expected}")
    return replace(
        found,
        statistic=guarded(
            name, _with_views(found.statistic), "a tensor from an activation (1, N, H, W) and a seed", _no_tensor
        ),
        loss=guarded(name, found.loss, "a finite scalar tensor from two statistics", _no_loss),
    )


def content_loss_of(name: str) -> ContentLoss:
    """The content loss that a name in CONTENT_LOSSES, or a `path/to/mine.py:name`, stands for; as `style_loss_of`."""
    if not is_own(name):
        return CONTENT_LOSSES[name]
    expected = "a finite scalar tensor from two activations (1, N, H, W)"
    return guarded(name, _with_views(function_of(name, expected)), expected, _no_loss)


def _with_views(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The same function of contiguous tensors of at least 32 bits, so that `view` works, whatever the fast paths do."""

    @wraps(function, updated=())
    def call(*arguments: torch.Tensor | int) -> torch.Tensor:
        return function(*(_whole(each).contiguous() if isinstance(each, torch.Tensor) else each for each in arguments))

    return call


def _no_tensor(result: object, *_: object) -> str | None:
    return None if isinstance(result, torch.Tensor) else type(result).__name__


def _no_loss(result: object, *_: object) -> str | None:
    """What is wrong with a loss."""
    if not isinstance(result, torch.Tensor):
        return type(result).__name__
    if result.numel() != 1:
        return f"a tensor of shape {tuple(result.shape)}"
    return None if bool(result.isfinite().all()) else str(result.item())


ContentLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""An activation F and its target P, (1, N, H, W) each -> a scalar, in which N occurs as 1/N."""

CONTENT_LOSSES: dict[str, ContentLoss] = {"l2": content_loss, "l1": absolute_content_loss}
"""By the names of `Settings.content_loss`; in both, N occurs as 1/N."""


def layer_weights(
    chosen: Sequence[float] | str | None,
    styles: Sequence[torch.Tensor],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = style_loss,
) -> tuple[float, ...]:
    """w_l, one weight per style layer: 1 each for None, the given ones, or "balanced".

    styles: each layer's statistic (the Gram A, say). Balanced weights measure each layer's loss relative to that of
    its style against zero, w_l ∝ 1 / loss(A, 0), for Grams 1 / mean((A/N)²). They are scaled so that
    Σ_l w_l·loss(A, 0) is the same as with w_l = 1 (so k_S keeps its order of magnitude).

    >>> layer_weights("balanced", [torch.ones(1, 1), torch.full((1, 1), 3.0)])
    (5.0, 0.5555555555555556)
    """
    if chosen is None:
        return (1.0,) * len(styles)
    if chosen != "balanced":
        return tuple(chosen)
    strengths = [float(loss(A, torch.zeros_like(A))) for A in map(in_double, styles)]
    mean = sum(strengths) / max(len(strengths), 1)
    return tuple(mean / strength if strength > 0 else 0.0 for strength in strengths)
