"""How good a result is, measured on the picture alone, by the full network and without it; no download.

Whatever network painted a picture, the full one judges it: a run's own losses say how well it did what it was
asked, not whether that was worth asking. No one number says it all; each metric's docstring has its formula,
range and direction, and what it is blind to.
"""

from __future__ import annotations

import torch

from nstlab.errors import RequestError
from nstlab.images import load_image
from nstlab.metrics import colour_distance, rmse, similarity
from nstlab.network import VGG19
from nstlab.optimise import (
    STYLE_LOSSES,
    Objective,
    content_loss,
    firing,
    gram,
    load_network,
    projections,
    samples,
    set_up,
    sliced_wasserstein_loss,
    style_loss,
)
from nstlab.optimise import mmd_gaussian_loss as mmd
from nstlab.runs import Run
from nstlab.settings import Settings, names_where

HELD_OUT = ("relu1_2", "relu2_2", "relu3_2", "relu4_3", "relu5_2")
"""Layers that no objective reads by default: what is good only where it was optimised shows there."""

METRICS = {
    "full_total": "content + k_S·style as the full network has them",
    "content_error": "relative content error, content layers",
    "style_error": "relative Gram error, style layers",
    "content_held_out": "relative content error, held-out layers",
    "style_held_out": "relative Gram error, held-out layers",
    "wasserstein": "relative sliced Wasserstein distance to the style",
    "mmd": "Gaussian MMD² to the style",
    "firing": "relative error of what fires together",
    "agreement": "on/off agreement with the content",
    "colour": "colour distance to the style (grey levels)",
    "content_ssim": "SSIM to the content picture",
}
TO_REFERENCE = {
    "rmse": "distance to the unreduced result (grey levels)",
    "ssim": "SSIM to the unreduced result",
    "gram_distance": "relative Gram distance to the unreduced result",
}


def unreduced(settings: Settings) -> Settings:
    """The same settings with the whole, trained network: what the reference and the judge are.

    >>> unreduced(Settings(reduction="random", amount=0.5, k_S=3)).changed()
    {'k_S': 3.0}
    """
    plain = {name: Settings.model_fields[name].default for name in names_where(family="reduction")}
    if settings.weights == "random":  # untrained weights paint, but they do not judge
        plain["weights"] = Settings.model_fields["weights"].default
    return settings.with_(**plain)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """‖a - b‖²/‖b‖² of two activations or Grams: 0 the same, 1 as far as nothing at all (a = 0), no upper end.

    Lower is better. Of activations it is blind to nothing but what the layer does not see, and a shift by a few
    pixels counts as loss; of Grams it is blind to where things are, and strong features outweigh weak ones.

    >>> relative_error(torch.zeros(2), torch.ones(2))
    1.0
    """
    return float((a - b).double().square().sum() / b.double().square().sum().clamp_min(1e-30))


def relative_wasserstein(a: torch.Tensor, b: torch.Tensor, seed: int = 0) -> float:
    """Squared sliced Wasserstein distance of two activations (1, N, H, W) over that of b to 0: in [0, ∞).

    0 where both have the same values along 32 directions, 1 for a silent picture; lower is better. Unlike the
    Gram it sees the whole distribution along each direction; it too is blind to positions.
    """
    target = projections(b, seed)
    whole = sliced_wasserstein_loss(torch.zeros_like(target), target)
    return float(sliced_wasserstein_loss(projections(a, seed), target) / whole.clamp_min(1e-30))


def agreement(a: torch.Tensor, b: torch.Tensor) -> float:
    """The share of (feature, position) pairs at which both activations are on (> 0) or both are off: in [0, 1].

    Higher is more alike. It is blind to how strong anything is, and generous where features are rarely on: two
    unrelated pictures agree at most positions, for both are off there.

    >>> agreement(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([5.0, 0.0, 0.0]))
    0.6666666865348816
    """
    return float(((a > 0) == (b > 0)).float().mean())


def gradient_fidelity(net: VGG19, small: VGG19, settings: Settings) -> float:
    """Cosine of the gradients of the loss that two networks give at one picture: in [-1, 1], 1 the same direction.

    The picture is the average of content and style. Higher is better, and it needs no transfer; it is blind to
    the gradient's length and to what happens away from that picture.
    """
    objective, start = set_up(unreduced(settings).with_(init="average"))
    pictures = objective.pictures[-1]
    gradients = []
    for network in (net, small):
        x = start.detach().to(net.mean).clone().requires_grad_()
        total = Objective(network, pictures, settings)(x)["total"]
        gradients.append(torch.autograd.grad(total, x)[0].double().flatten())
    g, h = gradients
    return float(g @ h / (g.norm() * h.norm()).clamp_min(1e-300))


class Judge:
    """The full network with the targets of one content and one style picture: judges any number of results."""

    def __init__(self, settings: Settings, net: VGG19 | None = None) -> None:
        """net: the full network, where one has it. Raises RequestError for a picture that cannot be had."""
        self.settings = plain = unreduced(settings)
        self.net = net if net is not None else load_network(plain.with_(convolution="auto", precision="float32"))
        self.content = load_image(plain.content, plain.size)
        self.style = load_image(plain.style, plain.style_size or plain.size)
        self.P = self._activations(self.content)
        self.S = self._activations(self.style)

    @torch.no_grad()
    def _activations(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        layers = dict.fromkeys((*self.settings.content_layers, *self.settings.style_layers, *HELD_OUT))
        return self.net(self.net.prepare(image.to(self.net.mean).clamp(0, 1)), keep=layers)

    @torch.no_grad()
    def judge(self, image: torch.Tensor, reference: torch.Tensor | None = None) -> dict[str, float]:
        """One tidy row: `METRICS` of a picture of the content's shape, (1, 3, H, W) in [0, 1], clamped.

        reference: the unreduced result; with it, the row has `TO_REFERENCE` too. A metric over layers is the mean
        of theirs. Raises RequestError if the picture has another shape than the content.
        """
        if image.shape != self.content.shape:
            raise RequestError(f"the picture is {tuple(image.shape[2:])}, the content {tuple(self.content.shape[2:])}")
        s, F = self.settings, self._activations(image)
        contents = [content_loss(F[l], self.P[l]) for l in s.content_layers]
        styles = [style_loss(gram(F[l]), gram(self.S[l])) for l in s.style_layers]
        total = sum(contents) / max(len(contents), 1) + s.k_S_at(s.iterations) * sum(styles)
        row = {
            "full_total": float(total),
            "content_error": _mean(relative_error(F[l], self.P[l]) for l in s.content_layers),
            "style_error": _mean(relative_error(gram(F[l]), gram(self.S[l])) for l in s.style_layers),
            "content_held_out": _mean(relative_error(F[l], self.P[l]) for l in HELD_OUT),
            "style_held_out": _mean(relative_error(gram(F[l]), gram(self.S[l])) for l in HELD_OUT),
            "wasserstein": _mean(relative_wasserstein(F[l], self.S[l], s.seed) for l in s.style_layers),
            "mmd": _mean(float(mmd(samples(F[l], s.seed), samples(self.S[l], s.seed))) for l in s.style_layers),
            "firing": _mean(relative_error(firing(F[l]), firing(self.S[l])) for l in s.style_layers),
            "agreement": _mean(agreement(F[l], self.P[l]) for l in s.content_layers),
            "colour": colour_distance(image, self.style),
            "content_ssim": similarity(image, self.content),
        }
        if reference is not None:
            R = self._activations(reference)
            distances = (relative_error(gram(F[l]), gram(R[l])) for l in s.style_layers)
            row |= {"rmse": rmse(image, reference), "ssim": similarity(image, reference)}
            row |= {"gram_distance": _mean(distances)}
        return row


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
        raise RequestError("a picture alone does not say what it was to be: give its settings too")
    return Judge(settings).judge(result, reference)


def equal_pull(settings: Settings, **changed: str) -> float:
    """The k_S that keeps the proportion of content's and style's pull when style_loss or content_loss is changed.

    Losses have units of their own, so that one k_S for all would compare nothing. k_S·‖∂S/∂x‖/‖∂C/∂x‖ is kept
    at the average of content and style, where every loss has a gradient.
    """
    pulls = []
    for those in (settings, settings.with_(**changed)):
        objective, x = set_up(those.with_(init="average"))
        losses = objective(x)
        style, content = (
            float(torch.autograd.grad(losses[part], x, retain_graph=True)[0].double().norm())
            for part in ("style", "content")
        )
        pulls.append(style / max(content, 1e-300))
    return settings.k_S * pulls[0] / max(pulls[1], 1e-300)


def score(image: torch.Tensor, judge: Judge, style_loss: str) -> float:
    """A picture by any of the style losses, relative to the same loss of the content picture itself.

    0: the style's own statistics; 1: as far from them as the content is. For tables of optimised by × scored by.
    """
    of = STYLE_LOSSES[style_loss]
    layers, seed = judge.settings.style_layers, judge.settings.seed
    targets = {l: of.statistic(judge.S[l], seed) for l in layers}
    F = judge._activations(image)
    found, first = (
        sum(float(of.loss(of.statistic(those[l], seed), targets[l])) for l in layers) for those in (F, judge.P)
    )
    return found / max(first, 1e-300)


def _mean(values: object) -> float:
    values = list(values)
    return sum(values) / len(values) if values else float("nan")
