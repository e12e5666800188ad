"""Self-checks for the exercises of the student edition: `check("04", gram)` says right, or what is missing.

They never show an answer: an answer is tried on numbers of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from nstlab.errors import unknown
from nstlab.metrics import angles
from nstlab.network import load_vgg19
from nstlab.optimise import content_loss, gram
from nstlab.settings import Settings

Check = Callable[[Any], str | None]
CHECKS: dict[str, Check] = {}
"""The number of a notebook -> what is wrong with an answer to its exercise, in a sentence; None if it is right."""


class NotYet(AssertionError):
    """An answer that is not right yet; the message says what is missing. A notebook shows that line alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


def check(number: str, answer: Any) -> None:
    """Print "Right." for a right answer to a notebook's exercise. Raises NotYet for any other."""
    if number not in CHECKS:
        raise unknown("exercise", number, CHECKS)
    if answer is None or answer is Ellipsis:
        raise NotYet("there is no answer yet")
    try:
        fault = CHECKS[number](answer)
    except NotImplementedError:
        fault = "there is no answer yet"
    except Exception as error:  # whatever a student's function raises is what to tell the student
        fault = f"it stops with {type(error).__name__}: {error}"
    if fault:
        raise NotYet(fault)
    print("Right.")


def _exercise(number: str) -> Callable[[Check], Check]:
    def keep(function: Check) -> Check:
        CHECKS[number] = function
        return function

    return keep


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _near(found: Any, wanted: Any) -> bool:
    """Whether two numbers, or arrays of one shape, agree to rounding."""
    found, wanted = torch.as_tensor(found).cpu().double(), torch.as_tensor(wanted).cpu().double()
    return found.shape == wanted.shape and bool(torch.allclose(found, wanted, rtol=1e-4, atol=1e-6))


@_exercise("00")
def _settings(answer: Settings) -> str | None:
    if not isinstance(answer, Settings):
        return "it should be a lab.Settings"
    wanted = {"content": "chelsea", "style": "waves", "size": 64, "k_S": 100, "init": "white_noise"}
    wrong = [name for name, value in wanted.items() if getattr(answer, name) not in (value, (value,))]
    return f"not what was asked for: {', '.join(wrong)}" if wrong else None


@_exercise("01")
def _shape(answer: Callable[..., Any]) -> str | None:
    net = load_vgg19("random", device="cpu")
    for name, height, width in (("relu1_1", 64, 96), ("relu3_1", 64, 96), ("pool5", 96, 64), ("conv4_2", 70, 50)):
        rows, columns = net.layer(name).size(height, width)
        found = tuple(answer(net.layer(name), height, width))
        if len(found) != 4:
            return f"an activation has 4 dimensions; for {name} there are {len(found)}"
        if found[0] != 1:
            return "the first dimension is the batch: one picture"
        if found[1] != net.layer(name).features:
            return f"the second dimension of {name} is not the number of its features"
        if found[2:] != (rows, columns):
            return f"the two of space are not right for {name} of a picture of {height} × {width}"
    return None


@_exercise("02")
def _angle(answer: Callable[..., Any]) -> str | None:
    a, b = _noise(6, 7), _noise(6, 7, seed=1)
    if not abs(float(answer(a, 2 * a))) < 0.1:
        return "for a map and twice that map it should be 0"
    left, right = torch.zeros(2, 4), torch.zeros(2, 4)
    left[0], right[1] = 1, 3
    if not abs(float(answer(left, right)) - 90) < 0.1:
        return "for two maps that are never active together it should be 90 degrees"
    right_one = float(angles(a.reshape(1, -1), b.reshape(1, -1)))
    return None if abs(float(answer(a, b)) - right_one) < 0.1 else "for other maps the angle is another"


@_exercise("03")
def _content(answer: Callable[..., Any]) -> str | None:
    F, P = _noise(1, 5, 6, 7), _noise(1, 5, 6, 7, seed=1)
    if not _near(answer(F, F), 0.0):
        return "for two equal activations it should be 0"
    if _near(answer(F, P), content_loss(F, P) * F.numel()):
        return "it grows with the size of the picture: a mean does not"
    return None if _near(answer(F, P), content_loss(F, P)) else "it is not the mean of the squared differences"


@_exercise("04")
def _gram(answer: Callable[..., Any]) -> str | None:
    F = _noise(1, 5, 6, 7)
    found = torch.as_tensor(answer(F))
    if found.shape != (5, 5):
        return f"of 5 features it should be 5 × 5, not {' × '.join(map(str, found.shape)) or 'one number'}"
    if _near(found, gram(F) * 42):
        return "it grows with the number of positions: divide by it"
    return None if _near(found, gram(F)) else "its numbers are not the mean products of two features"


@_exercise("05")
def _distance(answer: Callable[..., Any]) -> str | None:
    a, b = torch.zeros(1, 3, 4, 5), torch.ones(1, 3, 4, 5)
    if _near(answer(a, b), 1.0):
        return "pictures are stored from 0 to 1, and the distance is asked in grey levels, 0 to 255"
    if not _near(answer(a, b), 255.0):
        return "black and white should be 255 grey levels apart"
    a, b = _noise(1, 3, 4, 5).abs(), _noise(1, 3, 4, 5, seed=1).abs()
    right = float((a - b).square().mean().sqrt() * 255)
    return None if _near(float(answer(a, b)), right) else "it is not the root of the mean square"


@_exercise("06")
def _price(answer: Callable[..., Any]) -> str | None:
    first, second = {"content": 10.0, "style": 50.0}, {"content": 40.0, "style": 20.0}
    if float(answer(first, second)) < 0:
        return "a price is positive: content rises while style falls"
    if _near(answer(first, second), 0.0) or _near(answer(first, second), 30.0):
        return "how much content for *one* unit of style?"
    return (
        None if _near(float(answer(first, {"content": 40.0, "style": 35.0})), 2.0) else "30 for 15 units is 2 for one"
    )


@_exercise("07")
def _adam(answer: Callable[..., Any]) -> str | None:
    x = _noise(4).requires_grad_()
    start, gradients = x.detach().clone(), [_noise(4, seed=k) for k in (1, 2, 3)]
    optimizer = torch.optim.Adam([x], lr=0.5)
    m, v, now = torch.zeros(4), torch.zeros(4), start
    for t, gradient in enumerate(gradients, start=1):
        x.grad = gradient.clone()
        optimizer.step()
        now, m, v = answer(now, gradient, m, v, t, 0.5)
        if not torch.allclose(torch.as_tensor(now), x.detach(), rtol=1e-3, atol=1e-4):
            if t == 1:
                return "the first step should be the rate in each number: are m and v divided by 1 - βᵗ?"
            return f"step {t} is another: which part of m and v is kept?"
    return None


@_exercise("08")
def _parameters(answer: Callable[..., Any]) -> str | None:
    if answer(3, 64) == 9 * 3 * 64:
        return "each feature has a bias, too"
    for inputs, features in ((3, 64), (64, 128), (32, 64)):
        if answer(inputs, features) != 9 * inputs * features + features:
            return f"not for {inputs} inputs and {features} features"
    return None


@_exercise("09")
def _relative(answer: Callable[..., Any]) -> str | None:
    G, A = _noise(4, 4).abs(), _noise(4, 4, seed=1).abs()
    if not _near(float(answer(A, A)), 0.0):
        return "for the style itself it should be 0"
    if not _near(float(answer(torch.zeros(4, 4), A)), 1.0):
        return "where nothing of the style is there, G = 0, it should be 1"
    if not _near(float(answer(10 * G, 10 * A)), float(answer(G, A))):
        return "ten times the activations' units should change nothing"
    return (
        None if _near(float(answer(G, A)), float((G - A).norm() / A.norm())) else "compare lengths, not their squares"
    )


@_exercise("10")
def _knob(answer: Callable[..., Any]) -> str | None:
    table = pd.DataFrame({"k_S": [1, 1, 10, 10], "init": ["a", "b"] * 2, "loss_style": [8.0, 4.0, 2.0, 1.0]})
    found = answer(table, "k_S")
    if _near(float(found), 4.0):
        shuffled = answer(table.sample(frac=1, random_state=1), "k_S")
        return None if _near(float(shuffled), 4.0) else "it should not depend on the order of the rows"
    return "compare the runs that differ in this knob alone: here by a factor of 4"


@_exercise("11")
def _masked(answer: Callable[..., Any]) -> str | None:
    F, t = _noise(1, 4, 5, 6), torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(2))
    found = torch.as_tensor(answer(F, torch.ones_like(t)))
    if found.shape != (4, 4) or not _near(found, gram(F)):
        return "a mask of ones should change nothing"
    rows, weights = F.flatten(2)[0], t.flatten()
    if _near(answer(F, t), (rows * weights) @ rows.T / weights.sum()):
        return "a position counts by the square of its mask"
    right = (rows * weights.square()) @ rows.T / weights.square().sum()
    return None if _near(answer(F, t), right) else "divide by the sum of what the positions count"


@_exercise("12")
def _field(answer: Callable[..., Any]) -> str | None:
    for stack in ([(3, 1)], [(3, 1), (3, 1)], [(3, 1), (2, 2), (3, 1)], [(3, 2), (3, 2), (5, 1)]):
        field, apart = 1, 1  # apart: pixels between neighbouring positions
        for kernel, stride in stack:
            field, apart = field + (kernel - 1) * apart, apart * stride
        if answer(stack) != field:
            steps = ", ".join(f"{kernel} × {kernel} with stride {stride}" for kernel, stride in stack)
            return f"not for {steps}"
    return None


@_exercise("13")
def _carriers(answer: Callable[..., Any]) -> str | None:
    features = ["a", "b", "c", "d", "e"]
    table = pd.DataFrame({"feature": features, "style": [0.1, -5.0, 2.0, 0.0, -1.0], "content": [9.0, 0, 0, 8, 7]})
    found = list(answer(table, 2))
    if len(found) != 2:
        return f"two were asked for, not {len(found)}"
    if found == ["c", "a"]:
        return "what carries a style may have a derivative below 0, too"
    return None if found == ["b", "c"] else "order them by the size of what they carry of the style, the largest first"


@_exercise("14")
def _factor(answer: Callable[..., Any]) -> str | None:
    before, after = np.array([1.0, 10.0, 100.0]), np.array([4.0, 10.0, 25.0])
    found = float(answer(before, after))
    if _near(found, float((after / before).mean())):
        return "4 times and a quarter should cancel: they do if their logarithms are averaged"
    return None if _near(found, 1.0) and _near(float(answer(before, 3 * before)), 3.0) else "compare within pairs"
