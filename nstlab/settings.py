"""Every knob of a run, declared once: its unit, its range, its default and what it means.

The command line, the notebooks' parameter cells, the sliders and the sweeps all read it from here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
"""VGG19's convolutional part: (convolutions, features) of each of its five blocks."""

INITIAL_VALUES = ("white_noise", "white", "black", "mean", "content", "style", "average")
WEIGHTS = ("original-8bit", "torchvision", "random")
WEIGHTS_FORMATS = ("auto", "torchvision", "caffe", "grey")
STYLE_LOSSES = ("gram", "gram_l1", "mean_std", "mmd_gaussian", "sliced_wasserstein", "binarised")
CHANNEL_REDUCTIONS = ("distinctiveness", "magnitude", "contribution", "sensitivity", "random")
"""The reductions that take channels away; each is a way to choose them."""
REDUCTIONS = (*CHANNEL_REDUCTIONS, "weight_sharing", "minimal_effort")


LONGEST_VALUE = 80  # characters of a value that an error repeats


_WEIGHT_OF_STYLE = "k_S is the weight of the style loss, and content always weighs 1 (notebook 06 translates)"
OTHER_NAMES = {
    **dict.fromkeys(("style_weight", "content_weight", "alpha", "beta", "k_C"), _WEIGHT_OF_STYLE),
    **dict.fromkeys(("image_size", "max_size", "width", "height"), "size is the longer side in pixels"),
    **dict.fromkeys(("lr", "step_size"), "learning_rate"),
    **dict.fromkeys(("epochs", "steps", "num_iterations", "num_steps"), "iterations"),
    **dict.fromkeys(("content_image", "content_path"), "content"),
    **dict.fromkeys(("style_image", "style_path"), "style"),
    "tv_weight": "there is no term of total variation",
    "model": "weights",
}
"""What other tools call a knob -> what to say."""


class RequestError(ValueError):
    """What was asked for cannot be done; the message says in one line what would be right."""


class Contradiction(RequestError):
    """Each value can be had, but not all of them together."""


class RunError(RuntimeError):
    """A run could not go on; the message says in one line why, and what is kept."""


def unknown(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """The error for a name that is not among the known ones; it names the nearest."""
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return RequestError(f"unknown {kind} {_short(name)}: {hint}")


def _short(value: Any) -> str:
    """A value in an error's line, cut where it would fill it.

    >>> _short("a" * 200)[-6:]
    "aaaa…'"
    """
    text = " ".join(str(value)[:1000].split())
    return repr(text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…")


def layer_names() -> tuple[str, ...]:
    """The 37 layers F1 ... F37 in order: conv1_1, relu1_1, ..., relu5_4, pool5."""
    names: list[str] = []
    for block, (convolutions, _) in enumerate(BLOCKS, start=1):
        for i in range(1, convolutions + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return tuple(names)


def _knob(default: Any, meaning: str, unit: str = "", slider: tuple | None = None, **limits: Any) -> Any:
    """A setting. `slider` is the range that a control offers where it is narrower than what is allowed."""
    return Field(default, description=meaning, json_schema_extra={"unit": unit, "slider": slider}, **limits)


class Settings(BaseModel):
    """What shapes one transfer. Frozen, validated; to and from JSON as any pydantic model.

    Raises RequestError, in one line, for an unknown name (the nearest known one is named) or for a value
    out of range, and its kind Contradiction for values that do not go together. A picture is a sample's name or a
    path; a path is made absolute at once.

    >>> Settings(k_S=300, init="white_noise").changed()
    {'k_S': 300.0, 'init': 'white_noise'}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    content: str = _knob("astronaut", "the picture that is painted: a sample's name or a path")
    style: str = _knob("swirl", "the picture whose style is taken: a sample's name or a path")
    size: int = _knob(256, "the longer side of the result", "pixels", (64, 1024), ge=32, le=8192)
    style_size: int | None = _knob(
        None, "the longer side of the style picture; none: as `size`", "pixels", (64, 1024), ge=32, le=8192
    )
    k_S: float = _knob(
        1000.0, "the weight of the style loss; the content loss weighs 1", "", (1e-2, 1e7), ge=0, le=1e12
    )
    k_S_changes: tuple[tuple[int, Annotated[float, Field(ge=0, le=1e12)]], ...] = _knob(
        (), "k_S from an iteration on, where it was changed on the way: 40:300,80:10"
    )
    init: Literal[INITIAL_VALUES] = _knob("content", "the initial value: the picture at iteration 0")
    iterations: int = _knob(
        300, "the iteration to reach; what is stored is not computed again", "iterations", (0, 5000), ge=0, le=10**7
    )
    optimizer: Literal["lbfgs", "adam"] = _knob("lbfgs", "the optimiser")
    learning_rate: float | None = _knob(
        None, "step length; none: 1 for L-BFGS, 5 grey levels for Adam", "", (0.01, 20), gt=0, le=1000
    )
    history_size: int = _knob(
        20, "how many past steps L-BFGS remembers (see `nstlab.optimise`)", "iterations", (1, 100), ge=1, le=200
    )
    content_layers: tuple[str, ...] = _knob(("relu4_2",), "layers whose activations are to match the content's")
    style_layers: tuple[str, ...] = _knob(
        ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), "layers whose Grams are to match the style's"
    )
    style_layer_weights: tuple[float, ...] | Literal["balanced"] | None = _knob(
        None, "one weight a style layer; none: 1 each; balanced: each layer's Gram counts the same"
    )
    style_loss: Literal[STYLE_LOSSES] = _knob("gram", "how two activations' styles are compared; see nstlab.losses")
    content_loss: Literal["l2", "l1"] = _knob("l2", "how two activations are compared: by squares, or by amounts")
    pooling: Literal["max", "average"] = _knob("max", "how the network halves its resolution")
    weights: str = _knob("original-8bit", "the network: original-8bit, torchvision, random, or a path")
    weights_format: Literal[WEIGHTS_FORMATS] = _knob(
        "auto",
        "what a weights file of one's own expects of its pixels, if its numbers do not tell (see nstlab.weights)",
    )
    reduction: Literal[REDUCTIONS] | None = _knob(
        None, "how the network is made smaller; none: it stays whole (see nstlab.reduction)"
    )
    amount: float = _knob(0.0, "the share of its channels that each layer loses", "", (0, 0.9), ge=0, lt=1)
    angle: float | None = _knob(
        None,
        "distinctiveness: channels closer than this are merged, in place of an amount",
        "degrees",
        (5, 60),
        gt=0,
        le=90,
    )
    refit: bool = _knob(False, "whether the next layer is fitted anew by least squares to what it lost")
    reduced_blocks: tuple[Annotated[int, Field(ge=1, le=5)], ...] = _knob(
        (1, 2, 3, 4, 5), "the blocks of the network that lose channels"
    )
    calibration: Literal["pair", "samples"] = _knob(
        "pair", "the pictures that channels are judged by: the content and the style, or eight sample pictures"
    )
    bits: int | None = _knob(
        None,
        "weight sharing: each layer has at most 2^bits different weights; none: as they are",
        "bits",
        (1, 8),
        ge=1,
        le=8,
    )
    sparsity: float = _knob(0.0, "weight sharing: the share of single weights set to 0", "", (0, 0.9), ge=0, lt=1)
    gradient_kept: float = _knob(
        1.0, "minimal effort: the share of a gradient that is passed back at each position", "", (0.05, 1), gt=0, le=1
    )
    scales: int = _knob(
        1, "coarse to fine: how many sizes, each twice the one before, the last is `size`", "", (1, 4), ge=1, le=6
    )
    scale_iterations: int = _knob(
        60, "iterations at each of the smaller sizes", "iterations", (10, 300), ge=1, le=10**6
    )
    convolution: Literal["auto", "plain"] = _knob(
        "auto", "auto: the fastest for each shape; plain: torch's own, the reference"
    )
    precision: Literal["float32", "tf32", "bfloat16"] = _knob(
        "float32", "of the convolutions; tf32 and bfloat16 are for CUDA devices that have them"
    )
    seed: int = _knob(0, "the seed of the white noise, and of whatever else is drawn", "", (0, 999), ge=0, lt=2**63)
    device: str = _knob("auto", "auto, cpu, cuda, cuda:1, mps", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    frame_every: int | None = _knob(
        None,
        "store a frame every so many iterations, besides 0, 1, 2, 5, 10, 20, 50, ...",
        "iterations",
        (1, 100),
        ge=1,
    )

    def __init__(self, /, **values: Any) -> None:
        for name in values:
            if name not in type(self).model_fields:
                if name in OTHER_NAMES:
                    raise RequestError(f"unknown setting {name!r}: {OTHER_NAMES[name]}")
                raise unknown("setting", name, type(self).model_fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            faults = error.errors()
            kind = RequestError if any(fault["loc"] for fault in faults) else Contradiction
            raise kind("; ".join(map(_one_line, faults))) from None

    @classmethod
    def from_text(cls, pairs: dict[str, str], base: Settings | None = None) -> Settings:
        """Settings from text, as a command line has it: lists as a,b,c; `none` for none.

        base: where the other settings come from (None: the defaults). `as_text` is the way back.

        >>> Settings.from_text({"style_layers": "relu1_1,relu2_1", "style_size": "none"}).style_layers
        ('relu1_1', 'relu2_1')
        """
        values = {name: None if text.lower() == "none" and _may_be_none(name) else text for name, text in pairs.items()}
        return base.with_(**values) if base else cls(**values)

    def changed(self) -> dict[str, Any]:
        """The settings that are not at their default, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def with_(self, **values: Any) -> Settings:
        """These settings with some of them changed, validated like new ones."""
        return type(self)(**(self.model_dump() | values))

    def k_S_at(self, iteration: int) -> float:
        """The k_S in force at an iteration, `k_S_changes` counted in.

        >>> settings = Settings(k_S=1000, k_S_changes="40:300")
        >>> settings.k_S_at(39), settings.k_S_at(40)
        (1000.0, 300.0)
        """
        return ([self.k_S] + [k_S for start, k_S in self.k_S_changes if start <= iteration])[-1]

    @field_validator("k_S_changes", mode="before")
    @classmethod
    def _split_changes(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(tuple(change.strip().split(":")) for change in value.split(",") if change.strip())
        return value

    @field_validator("k_S_changes")
    @classmethod
    def _in_order(cls, changes: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        iterations = [iteration for iteration, _ in changes]
        if iterations != sorted(set(iterations)) or (iterations and iterations[0] < 1):
            raise ValueError("the iterations of the changes must rise, from 1 on")
        return changes

    @field_validator("content_layers", "style_layers", "style_layer_weights", "reduced_blocks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "balanced":
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("style_layer_weights")
    @classmethod
    def _not_negative(cls, weights: Any) -> Any:
        if isinstance(weights, tuple) and min(weights, default=0.0) < 0:
            raise ValueError("must not be negative")
        return weights

    @field_validator("content_layers", "style_layers")
    @classmethod
    def _known_layers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in layer_names():
                raise ValueError(str(unknown("layer", name, layer_names())))
        if len(set(names)) < len(names):
            raise ValueError(f"a layer is named twice in {', '.join(names)}")
        return names

    @field_validator("content", "style")
    @classmethod
    def _picture(cls, value: str) -> str:
        return _name_or_path(value)

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: str) -> str:
        value = _name_or_path(value)
        if not Path(value).is_absolute() and value not in WEIGHTS:
            raise ValueError(f"{unknown('weights', value, WEIGHTS)} (or the path of a .pth or .safetensors file)")
        return value

    def size_at(self, iteration: int) -> int:
        """The longer side of the picture at an iteration, in pixels: smaller ones first if there are `scales`.

        >>> [Settings(size=256, scales=3, scale_iterations=60).size_at(k) for k in (0, 59, 60, 120, 500)]
        [64, 64, 128, 256, 256]
        """
        smaller = max(self.scales - 1 - iteration // self.scale_iterations, 0)
        return max(round(self.size / 2**smaller), 1)

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        smallest = min(self.size, self.style_size or self.size) / 2 ** (self.scales - 1)
        if self.scales > 1 and smallest < 32:
            raise ValueError(f"scales = {self.scales}: the smallest of the sizes would be under 32 pixels")
        if not self.content_layers and not self.style_layers:
            raise ValueError("content_layers and style_layers are both empty: nothing is left to optimise")
        if self.weights_format != "auto" and self.weights in WEIGHTS:
            raise ValueError(f"weights_format = {self.weights_format}: needs weights = the path of a file")
        weights = self.style_layer_weights
        if isinstance(weights, tuple) and len(weights) != len(self.style_layers):
            raise ValueError(f"{len(weights)} style_layer_weights for {len(self.style_layers)} style layers")
        return self

    @model_validator(mode="after")
    def _reduces(self) -> Settings:
        """Every knob of a reduction belongs to the reduction that turns it."""
        channels = " or ".join(CHANNEL_REDUCTIONS)
        owners = {
            **dict.fromkeys(("amount", "refit", "reduced_blocks", "calibration"), (CHANNEL_REDUCTIONS, channels)),
            "angle": (("distinctiveness",), "distinctiveness"),
            **dict.fromkeys(("bits", "sparsity"), (("weight_sharing",), "weight_sharing")),
            "gradient_kept": (("minimal_effort",), "minimal_effort"),
        }
        for name, (owner, words) in owners.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.reduction not in owner:
                chosen = f"not {self.reduction}" if self.reduction else "and there is none"
                raise ValueError(f"{name} = {value}: needs reduction = {words}, {chosen}")
        if self.angle is not None and self.amount > 0:
            raise ValueError("angle and amount both say where merging ends: give one of them")
        if len(set(self.reduced_blocks)) < len(self.reduced_blocks) or not self.reduced_blocks:
            raise ValueError("reduced_blocks must name at least one of the blocks 1 to 5, each once")
        return self


def as_text(value: Any) -> str:
    """A setting's value as `Settings.from_text` reads it.

    >>> as_text([0.5, 2.0]), as_text([[40, 300.0], [80, 10.0]]), as_text(None)
    ('0.5,2', '40:300,80:10', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ",".join(
            ":".join(map(as_text, part)) if isinstance(part, (list, tuple)) else as_text(part) for part in value
        )
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _may_be_none(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and type(None) in get_args(field.annotation)


def _name_or_path(value: str) -> str:
    """A bare word is a name and stays; anything with a folder or an ending is a path, made absolute."""
    if not value or "\0" in value:
        raise ValueError("a name or a path is needed")
    if re.match(r"[A-Za-z]{2,}://", value):
        raise ValueError(f"{value[:80]} is an address, and nothing is downloaded: save the file and give its path")
    try:
        value.encode()
        path = Path(value).expanduser()
    except UnicodeEncodeError:
        raise ValueError("the name of the file is not valid UTF-8: rename it") from None
    except RuntimeError as error:  # ~somebody who is not there
        raise ValueError(str(error)) from None
    is_path = path.suffix or path.is_absolute() or len(path.parts) > 1 or value.startswith((".", "~"))
    return str(path.absolute()) if is_path else value


def _one_line(fault: dict[str, Any]) -> str:
    name = str(fault["loc"][0]) if fault["loc"] else ""
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if not name:
        return message
    if fault["type"] == "value_error":
        return f"{name}: {message}"
    if fault["type"] == "string_pattern_mismatch":
        message = f"should be one of {Settings.model_fields[name].description}"
    try:
        value = " ".join(repr(fault["input"]).split())
    except (ValueError, RecursionError):  # an integer of more than 4300 digits, a list that holds itself
        value = type(fault["input"]).__name__
    return f"{name} = {value[:80]}: {message}"
