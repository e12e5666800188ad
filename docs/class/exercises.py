"""The exercises with self-checks that `make class` adds to the notebooks, one for each; nstlab.checks checks them."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Exercise:
    """A task in words, the cell to fill in, a right answer to it, one that is wrong, and the name that is checked."""

    task: str
    start: str
    solution: str
    wrong: str
    name: str


def _function(task: str, head: str, doc: str, body: str, wrong: str) -> Exercise:
    """An exercise that asks for a function; body and wrong are its lines."""
    name = head.partition("(")[0]
    lines = [f"    {line}" if line else "" for line in dedent(body).strip().splitlines()]
    top = f'def {head}:\n    """{doc}"""\n'
    start = top + "    raise NotImplementedError  # YOUR CODE HERE"
    wrong = "\n".join(f"    {line}" for line in dedent(wrong).strip().splitlines())
    return Exercise(task, start, top + "\n".join(lines), top + wrong, name)


EXERCISES = {
    "00": Exercise(
        "Write the settings of a run that paints the cat, `chelsea`, in the style `waves`, 64 pixels large, with "
        "$k_S = 100$ and beginning with white noise.",
        "answer = None  # YOUR CODE HERE: lab.Settings(...)",
        'answer = lab.Settings(content="chelsea", style="waves", size=64, k_S=100, init="white_noise")',
        'answer = lab.Settings(content="chelsea", style="waves", size=64)',
        "answer",
    ),
    "01": _function(
        "Which shape has a layer's activation for a picture of any height and width? Use `layer.features` and "
        "`layer.stride`, the number of pixels between two neighbouring positions.",
        "shape_of(layer, height, width)",
        "The shape of a layer's activation, four numbers.",
        "return (1, layer.features, height // layer.stride, width // layer.stride)",
        "return (1, layer.features, height, width)",
    ),
    "02": _function(
        "The angle between two maps says how alike two features are. $\\cos\\theta = \\langle a, b\\rangle / "
        "\\lVert a\\rVert\\lVert b\\rVert$.",
        "angle(a, b)",
        "The angle in degrees between two maps (H, W).",
        """
        cosine = (a * b).sum() / (a.norm() * b.norm())
        return float(torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))))
        """,
        "return float((a * b).sum())",
    ),
    "03": _function(
        "Write the content loss: how far an activation is from the photograph's, whatever the picture's size.",
        "content_loss(F, P)",
        "The content loss of two activations (1, N, H, W).",
        "return ((F - P) ** 2).mean()",
        "return ((F - P) ** 2).sum()",
    ),
    "04": _function(
        "Write the Gram matrix of an activation, $G = F F^T / M$.",
        "gram(F)",
        "The Gram matrix (N, N) of an activation (1, N, H, W).",
        """
        rows = F.flatten(2)[0]
        return rows @ rows.T / rows.shape[1]
        """,
        """
        rows = F.flatten(2)[0]
        return rows @ rows.T
        """,
    ),
    "05": _function(
        "How far apart are two pictures? Write the root of their mean squared difference, in grey levels.",
        "distance(a, b)",
        "The distance of two pictures (1, 3, H, W), stored in [0, 1], in grey levels.",
        "return float(((a - b) ** 2).mean().sqrt() * 255)",
        "return float(((a - b) ** 2).mean().sqrt())",
    ),
    "06": _function(
        "Two runs end with these losses. How many units of content were paid for one unit of style?",
        "price(first, second)",
        "The price of style between two runs, each a dict with its losses `content` and `style`.",
        """
        paid, gained = second["content"] - first["content"], first["style"] - second["style"]
        return paid / gained
        """,
        'return second["content"] - first["content"]',
    ),
    "07": _function(
        "Write one step of Adam, with $\\beta_1 = 0.9$, $\\beta_2 = 0.999$ and $\\varepsilon = 10^{-8}$. "
        "`t` counts the steps from 1.",
        "adam_step(x, gradient, m, v, t, rate)",
        "The picture after a step, and the new m and v.",
        """
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        return x - rate * step, m, v
        """,
        """
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        return x - rate * m / (v.sqrt() + 1e-8), m, v
        """,
    ),
    "08": _function(
        "How many numbers does a convolution of 3 × 3 have? (So what is saved if half of its features go, or half of "
        "its inputs?)",
        "parameters(inputs, features)",
        "The number of weights and biases of a 3 x 3 convolution.",
        "return 9 * inputs * features + features",
        "return 9 * inputs * features",
    ),
    "09": _function(
        "Write the relative Gram error: the length of the difference as a part of the length of the style's Gram.",
        "relative_gram_error(G, A)",
        "How far a result's Gram G is from the style's, A, both (N, N).",
        "return float((G - A).norm() / A.norm())",
        "return float((G - A).norm())",
    ),
    "10": _function(
        "By which factor does one knob change the style loss? Compare only runs that differ in nothing else, and take "
        "the mean factor of the larger over the smaller loss. The knobs are `k_S` and `init`; each has two values.",
        "factor(table, knob)",
        "The mean factor between the losses of runs that differ in one knob alone.",
        """
        other = {"k_S": "init", "init": "k_S"}[knob]
        losses = table.groupby(other)["loss_style"]
        return float((losses.max() / losses.min()).mean())
        """,
        'return float(table["loss_style"].max() / table["loss_style"].min())',
    ),
    "11": _function(
        "Write the Gram matrix under a mask, $G_t = F\\,\\mathrm{diag}(t^2)\\,F^T / \\sum t^2$.",
        "masked_gram(F, t)",
        "The Gram (N, N) of an activation (1, N, H, W) under a mask (1, 1, H, W) of numbers from 0 to 1.",
        """
        rows, counts = F.flatten(2)[0], t.flatten() ** 2
        return (rows * counts) @ rows.T / counts.sum()
        """,
        """
        rows = (F * t).flatten(2)[0]
        return rows @ rows.T / rows.shape[1]
        """,
    ),
    "12": _function(
        "How many pixels does a position see, across, after a stack of layers? Each is (kernel, stride): (3, 1) is a "
        "convolution of 3 × 3, (2, 2) a pooling.",
        "receptive_field(stack)",
        "The side, in pixels, of the square that a position sees after these layers.",
        """
        field, apart = 1, 1  # apart: pixels between neighbouring positions
        for kernel, stride in stack:
            field += (kernel - 1) * apart
            apart *= stride
        return field
        """,
        "return 1 + sum(kernel - 1 for kernel, stride in stack)",
    ),
    "13": _function(
        "From a table of derivatives with the columns `feature`, `style` and `content`, find the features that carry "
        "most of the style.",
        "first_carriers(table, count)",
        "The names of the features that carry most of the style, the first one most.",
        """
        order = table["style"].abs().sort_values(ascending=False)
        return list(table.loc[order.index[:count], "feature"])
        """,
        'return list(table.sort_values("style", ascending=False)["feature"][:count])',
    ),
    "14": _function(
        "By which factor does an error change, on average over the pairs? Four times in one pair and a quarter in "
        "another should cancel.",
        "mean_factor(before, after)",
        "The mean factor from before to after; both are arrays, one error for each pair.",
        "return float((after / before).prod() ** (1 / len(before)))",
        "return float((after / before).mean())",
    ),
}
"""The number of a notebook -> its exercise."""
