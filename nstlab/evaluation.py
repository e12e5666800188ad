"""How good a result is, measured on the picture alone, by the full network and without it; no download.

Whatever network painted a picture, full VGG19 judges it: a run's own losses say how well it did what it was
asked, not whether that was worth asking. No one number says it all; each metric's docstring has its formula,
range and direction, and what it is blind to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nstlab import own
from nstlab.errors import RequestError, unknown
from nstlab.images import load_image, load_styles
from nstlab.layers import NOT_EVERY_NETWORK
from nstlab.metrics import colour_distance, rmse, similarity
from nstlab.network import VGG19, in_double
from nstlab.optimise import (
    Objective,
    content_loss,
    firing,
    gram,
    load_network,
    mmd_gaussian_loss,
    projections,
    samples,
    set_up,
    sliced_wasserstein_loss,
    style_loss,
    style_loss_of,
)
from nstlab.runs import Run
from nstlab.settings import Settings, names_where

HELD_OUT = ("relu1_2", "relu2_2", "relu3_2", "relu4_3", "relu5_2")
"""Layers that no objective reads by default; they expose a result that is good only where it was optimised."""


def unreduced(settings: Settings) -> Settings:
    """The same settings with the whole, trained VGG19, for the reference and the judge.

    Another network's layers, their weights and its build do not apply to it, and its k_S has another unit: metrics that
    do not weigh content against style are comparable between networks, `full_total` is not.

    >>> unreduced(Settings(reduction="random", amount=0.5, k_S=3)).changed()
    {'k_S': 3.0}
    """
    plain = {name: Settings.model_fields[name].default for name in names_where(family="reduction")}
    if settings.weights == "random":  # untrained weights paint, but they do not judge
        plain["weights"] = Settings.model_fields["weights"].default
    if settings.network != "vgg19":
        layers = [name for name in ("content_layers", "style_layers") if getattr(settings, name) != ()]
        plain |= {
            name: Settings.model_fields[name].default for name in (*layers, "network", "weights", *NOT_EVERY_NETWORK)
        }
        if settings.style_layer_weights != "balanced":
            plain["style_layer_weights"] = None
    return settings.with_(**plain)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """‖a - b‖²/‖b‖² of two activations or Grams: 0 if they are equal, 1 if a = 0, without upper limit.

    Lower is better. For activations it is blind only to what the layer does not see, and even a shift by a few pixels
    counts as loss. For Grams it is blind to where things are, and strong features outweigh weak ones.

    >>> relative_error(torch.zeros(2), torch.ones(2))
    1.0
    """
    return float(in_double(a - b).square().sum() / in_double(b).square().sum().clamp_min(1e-30))


def relative_wasserstein(a: torch.Tensor, b: torch.Tensor, seed: int = 0) -> float:
    """Squared sliced Wasserstein distance of two activations (1, N, H, W) over that of b to 0: in [0, ∞).

    0 if both have the same values along 32 directions, 1 if a = 0; lower is better. Unlike the Gram it sees the whole
    distribution along each direction; like the Gram it is blind to positions.
    """
    target = projections(b, seed)
    whole = sliced_wasserstein_loss(torch.zeros_like(target), target)
    return float(sliced_wasserstein_loss(projections(a, seed), target) / whole.clamp_min(1e-30))


def agreement(a: torch.Tensor, b: torch.Tensor) -> float:
    """The fraction of (feature, position) pairs at which both activations are on (> 0) or both are off: in [0, 1].

    Higher is more alike. It is blind to strength, and generous if features are rarely on: two unrelated pictures
    agree at most positions, because both are off there.

    >>> agreement(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([5.0, 0.0, 0.0]))
    0.6666666865348816
    """
    return float(((a > 0) == (b > 0)).float().mean())


def gradient_fidelity(net: VGG19, small: VGG19, settings: Settings) -> float:
    """Cosine between two networks' gradients of the loss at one picture: in [-1, 1], 1 for the same direction.

    The picture is the average of content and style. Higher is better. It needs no transfer, and is blind to the
    gradient's length and to all other pictures.
    """
    objective, start = set_up(unreduced(settings).with_(init="average"))
    pictures = objective.pictures[-1]
    gradients = []
    for network in (net, small):
        x = start.detach().to(net.mean).clone().requires_grad_()
        total = Objective(network, pictures, settings)(x)["total"]
        gradients.append(in_double(torch.autograd.grad(total, x)[0]).flatten())
    g, h = gradients
    return float(g @ h / (g.norm() * h.norm()).clamp_min(1e-300))


@dataclass(frozen=True)
class Seen:
    """A picture as the judge sees it: (1, 3, H, W) in [0, 1], and the full network's activations, by layer."""

    picture: torch.Tensor
    activations: dict[str, torch.Tensor]


class Judge:
    """Full VGG19 with the targets of one content and its styles; judges any number of results.

    It sees the pictures as they are and whole, whatever colours or masks the run had.
    """

    def __init__(self, settings: Settings, net: VGG19 | None = None) -> None:
        """net: the full network, if it is loaded already. Raises RequestError for a missing picture."""
        self.settings = plain = unreduced(settings)
        self.net = net if net is not None else load_network(plain.with_(convolution="auto", precision="float32"))
        self.content = self.see(load_image(plain.content, plain.size))
        self.styles = [self.see(style) for style in load_styles(plain)]

    @property
    def style(self) -> Seen:
        """The style picture, the first of several."""
        return self.styles[0]

    def to_styles(self, compare: Callable[[Seen], float]) -> float:
        """The mean of a comparison with each style, by the styles' proportions."""
        pairs = zip(self.settings.proportions, self.styles, strict=True)
        return sum(v * compare(style) for v, style in pairs if v > 0)

    @torch.no_grad()
    def see(self, image: torch.Tensor) -> Seen:
        """A picture (1, 3, H, W) in [0, 1], clamped for the network."""
        layers = dict.fromkeys((*self.settings.content_layers, *self.settings.style_layers, *HELD_OUT))
        return Seen(image, self.net(self.net.prepare(image.clamp(0, 1)), keep=layers))

    @torch.no_grad()
    def judge(
        self,
        image: torch.Tensor,
        reference: torch.Tensor | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> dict[str, float]:
        """One tidy row: the metrics of a picture of the content's shape, (1, 3, H, W) in [0, 1], clamped.

        metrics: by name (None: all `METRICS`).
        reference: the unreduced result; without it, the row lacks the metrics that compare with it. Raises
        RequestError if the picture's shape differs from the content's.
        """
        shape, expected = tuple(image.shape[2:]), tuple(self.content.picture.shape[2:])
        if shape != expected:
            raise RequestError(f"the picture is {shape}, the content {expected}")
        result, compared = self.see(image), None if reference is None else self.see(reference)
        asked = {n: metric for n, metric in (metrics or METRICS).items() if compared or not metric.to_reference}
        return {name: float(metric.of(result, self, compared)) for name, metric in asked.items()}


@dataclass(frozen=True)
class Metric:
    """A number that says how good a result is.

    of: the result, the judge (who has the content, the style and the settings) and the unreduced result -> a number.
    higher: whether higher is better; to_reference: whether it needs the unreduced result.
    """

    title: str
    of: Callable[[Seen, Judge, Seen | None], float]
    higher: bool = False
    to_reference: bool = False


def _full_total(result: Seen, judge: Judge, _: Seen | None) -> float:
    s, F = judge.settings, result.activations
    contents = [content_loss(F[l], judge.content.activations[l]) for l in s.content_layers]

    def style(seen: Seen) -> float:
        return float(sum(style_loss(gram(F[l]), gram(seen.activations[l])) for l in s.style_layers))

    return float(sum(contents) / max(len(contents), 1) + s.k_S_at(s.iterations) * judge.to_styles(style))


def _mean_to(
    target: str, compare: Callable[[torch.Tensor, torch.Tensor, int], float], layers: Sequence[str] = ()
) -> Callable[[Seen, Judge, Seen | None], float]:
    """The mean over layers of `compare` between the result's activations and the target's.

    target: content, style or reference; compare: of two activations and a seed; layers (): the content layers for the
    content, otherwise the style layers.
    """

    def of(result: Seen, judge: Judge, reference: Seen | None) -> float:
        s = judge.settings
        those = layers or (s.content_layers if target == "content" else s.style_layers)

        def mean(other: Seen) -> float:
            values = [compare(result.activations[l], other.activations[l], s.seed) for l in those]
            return float(torch.tensor(values, dtype=torch.float64).mean())

        if target == "style":
            return judge.to_styles(mean)
        return mean(judge.content if target == "content" else reference)

    return of


def _activation_error(a: torch.Tensor, b: torch.Tensor, _: int) -> float:
    return relative_error(a, b)


def _gram_error(a: torch.Tensor, b: torch.Tensor, _: int) -> float:
    return relative_error(gram(a), gram(b))


def _mmd(a: torch.Tensor, b: torch.Tensor, seed: int) -> float:
    return float(mmd_gaussian_loss(samples(a, seed), samples(b, seed)))


def _firing_error(a: torch.Tensor, b: torch.Tensor, _: int) -> float:
    return relative_error(firing(a), firing(b))


def _agreement(a: torch.Tensor, b: torch.Tensor, _: int) -> float:
    return agreement(a, b)


METRICS = {
    "full_total": Metric("content + k_S·style as the full network has them", _full_total),
    "content_error": Metric("relative content error, content layers", _mean_to("content", _activation_error)),
    "style_error": Metric("relative Gram error, style layers", _mean_to("style", _gram_error)),
    "content_held_out": Metric(
        "relative content error, held-out layers", _mean_to("content", _activation_error, HELD_OUT)
    ),
    "style_held_out": Metric("relative Gram error, held-out layers", _mean_to("style", _gram_error, HELD_OUT)),
    "wasserstein": Metric("relative sliced Wasserstein distance to the style", _mean_to("style", relative_wasserstein)),
    "mmd": Metric("Gaussian MMD² to the style", _mean_to("style", _mmd)),
    "firing": Metric("relative error of what fires together", _mean_to("style", _firing_error)),
    "agreement": Metric("on/off agreement with the content", _mean_to("content", _agreement), higher=True),
    "colour": Metric(
        "colour distance to the style (grey levels)",
        lambda result, judge, reference: judge.to_styles(lambda s: colour_distance(result.picture, s.picture)),
    ),
    "content_ssim": Metric(
        "SSIM to the content picture",
        lambda result, judge, reference: similarity(result.picture, judge.content.picture),
        higher=True,
    ),
    "rmse": Metric(
        "distance to the unreduced result (grey levels)",
        lambda result, judge, reference: rmse(result.picture, reference.picture),
        to_reference=True,
    ),
    "ssim": Metric(
        "SSIM to the unreduced result",
        lambda result, judge, reference: similarity(result.picture, reference.picture),
        higher=True,
        to_reference=True,
    ),
    "gram_distance": Metric(
        "relative Gram distance to the unreduced result", _mean_to("reference", _gram_error), to_reference=True
    ),
}
"""A row's columns, in order."""


def metric_of(name: str) -> tuple[str, Metric]:
    """The metric, with the name of its column, that a name in METRICS or a `path/to/mine.py:name` stands for.

    Of your own: a function of three pictures, (1, 3, H, W) in [0, 1] each: the result, the content and the (first)
    style, that gives a number; or a `Metric`. Raises RequestError if it is neither, RunError while it is used.
    """
    if not own.is_own(name):
        if name not in METRICS:
            raise RequestError(f"{unknown('metric', name, METRICS)} (or path/to/mine.py:name)")
        return name, METRICS[name]
    expected = "a finite number from result, content and style, (1, 3, H, W) in [0, 1] each"
    found, column = own.load(name, expected), own.parts(name)[1]
    if isinstance(found, Metric):
        return column, replace(found, of=own.guarded(name, found.of, "a finite number", _no_number))
    judge = own.guarded(name, own.function_of(name, expected), expected, _no_number)
    return column, Metric(column, lambda seen, by, _: judge(seen.picture, by.content.picture, by.style.picture))


def _no_number(result: object, *_: object) -> str | None:
    """What is wrong with a metric's value."""
    try:
        return None if math.isfinite(float(result)) else str(float(result))
    except (TypeError, ValueError):
        return type(result).__name__


def evaluate(
    result: Run | torch.Tensor, settings: Settings | None = None, reference: torch.Tensor | None = None
) -> dict[str, float]:
    """One tidy row of metrics of a result, judged by the full network whatever network made it.

    result: a run, or a picture (1, 3, H, W) in [0, 1] with the settings that name its content and style;
    reference: the unreduced result. For many results of one pair `Judge` loads the network once.

    >>> row = evaluate(load_image("astronaut", 64), Settings(size=64))
    >>> row["content_error"], round(row["content_ssim"], 3)
    (0.0, 1.0)
    """
    if isinstance(result, Run):
        return Judge(settings or result.settings).judge(result.result, reference)
    if settings is None:
        raise RequestError("a picture alone does not say its content and style: give its settings too")
    return Judge(settings).judge(result, reference)


def equal_pull(settings: Settings, **changed: Any) -> float:
    """The k_S that keeps the ratio of style's pull to content's when a loss, the network or its layers are changed.

    Losses have different units, and so have the activations of networks that are not VGGs: one k_S for all would be
    meaningless. k_S·‖∂S/∂x‖/‖∂C/∂x‖ is kept, at the average of content and style, where every loss has a gradient.
    """
    pulls = []
    for those in (settings, settings.with_(**changed)):
        objective, x = set_up(those.with_(init="average"))
        losses = objective(x)
        style, content = (
            float(in_double(torch.autograd.grad(losses[part], x, retain_graph=True)[0]).norm())
            for part in ("style", "content")
        )
        pulls.append(style / max(content, 1e-300))
    return settings.k_S * pulls[0] / max(pulls[1], 1e-300)


def score(image: torch.Tensor, judge: Judge, style_loss: str) -> float:
    """A picture's loss by any of the style losses, relative to that of the content picture.

    0: the style's own statistics; 1: as far from them as the content is. For tables of optimised by × scored by.
    """
    of = style_loss_of(style_loss)
    layers, seed = judge.settings.style_layers, judge.settings.seed

    def distance(those: Seen, style: Seen) -> float:
        pairs = [[of.statistic(seen.activations[l], seed) for seen in (those, style)] for l in layers]
        return sum(float(of.loss(a, b)) for a, b in pairs)

    found, first = (
        judge.to_styles(lambda style, those=those: distance(those, style))
        for those in (judge.see(image), judge.content)
    )
    return found / max(first, 1e-300)
