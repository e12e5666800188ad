"""Every knob of a run, declared once: its unit, range, default and meaning.

The command line, the notebooks' parameter cells, the sliders and the sweeps all read it from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ConfigDict, Field, ValidationError

from nstlab import own
from nstlab.errors import Contradiction, RequestError, unknown
from nstlab.gates import parse_chosen
from nstlab.knobs import NAMED, OWN, Knob, named, setting
from nstlab.layers import architecture
from nstlab.rules import OF_NETWORK, Rules
from nstlab.terminal import shell_words
from nstlab.values import as_text

WEIGHTS_FORMATS = ("auto", "torchvision", "caffe", "grey")
LEARNING_RATES = {"lbfgs": 1.0, "adam": 5.0}
"""The meaning of `learning_rate=None`; Adam's is in grey levels."""

_WEIGHT_OF_STYLE = "k_S is the weight of the style loss, and content always weighs 1 (notebook 06 translates)"
OTHER_NAMES = {
    **dict.fromkeys(("style_weight", "content_weight", "alpha", "beta", "k_C"), _WEIGHT_OF_STYLE),
    **dict.fromkeys(("image_size", "max_size", "width", "height"), "size is the longer side in pixels"),
    **dict.fromkeys(("lr", "step_size"), "learning_rate"),
    **dict.fromkeys(("epochs", "steps", "num_iterations", "num_steps"), "iterations"),
    **dict.fromkeys(("content_image", "content_path"), "content"),
    **dict.fromkeys(("style_image", "style_path"), "style"),
    **dict.fromkeys(("tv_weight", "tv_strength"), "k_TV"),
    **dict.fromkeys(("style_blend_weights", "style_blending"), "style_weights"),
    **dict.fromkeys(("original_colors", "preserve_color", "color"), "colour (style, matched, luminance, recombined)"),
    **dict.fromkeys(("mask", "masks", "style_mask", "content_mask"), "content_masks and style_masks"),
    "model": "network (and weights)",
}
"""Another tool's name for a knob -> what to say."""

DRAWN = {"init": {"white_noise"}, "style_loss": {"mmd_gaussian", "sliced_wasserstein"}, "reduction": {"random"}}
"""The values of settings that draw something from `seed`."""

_PATH = {"rebuilds": False}
_EXTENT = {"shapes": False, "rebuilds": False}
_TILES = _EXTENT | {"family": "network"}
_OPTIMISER = {"family": "optimiser", "rebuilds": False}
_NETWORK = {"family": "network"}
_CONTROL = {"family": "control"}
_REDUCTION = {"family": "reduction"}


class Settings(Rules):
    """All that shapes one transfer. Frozen and validated; to and from JSON like any pydantic model.

    Raises RequestError, in one line, for an unknown name (suggesting the nearest known one) or a value out of range,
    and its subclass Contradiction for values that do not go together. A picture is a sample's name or a path; a path
    is made absolute at once.

    >>> Settings(k_S=300, init="white_noise").changed()
    {'k_S': 300.0, 'init': 'white_noise'}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    content: str = setting("astronaut", "the picture to paint: a sample's name or a path", judged=True)
    style: str | tuple[str, ...] = setting(
        "swirl", "the picture to take the style from: a sample's name or a path; or several", judged=True
    )
    style_weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] | None = setting(
        None, "how much each style counts, brought to a sum of 1; none: equally", **_CONTROL, judged=True
    )
    content_masks: tuple[str | None, ...] | None = setting(
        None, "where in the content each style is painted, white is in: a picture a style, or none", **_CONTROL
    )
    style_masks: tuple[str | None, ...] | None = setting(
        None, "from where in its picture each style is taken, white is in: a picture a style, or none", **_CONTROL
    )
    colour: Literal["style", "matched", "luminance", "recombined"] = setting(
        "style", "whose colours the result has (see nstlab.optimise.colour)", **_CONTROL
    )
    size: int = setting(256, "the longer side of the result", "pixels", judged=True, ge=32, le=8192)
    style_size: int | None = setting(
        None, "the longer side of the style picture; none: `size`", "pixels", **_NETWORK, judged=True, ge=32, le=8192
    )
    k_S: float = setting(
        1000.0,
        "the weight of the style loss; content weighs 1",
        slider=(1e-2, 1e7),
        **_PATH,
        term="style",
        ge=0,
        le=1e12,
    )
    k_TV: float = setting(
        0.0, "the weight of the total variation, which smooths; 0 leaves it out", **_CONTROL, term="tv", ge=0, le=1e12
    )
    tv: Literal["l1", "l2"] = setting("l1", "total variation: of absolute or of squared differences", **_CONTROL)
    k_S_changes: tuple[tuple[int, Annotated[float, Field(ge=0, le=1e12)]], ...] = setting(
        (), "k_S from given iterations on, if it was changed during the run: 40:300,80:10", **_PATH
    )
    init: str = setting("content", "the initial value, the picture at iteration 0: a name, or the path of a picture")
    iterations: int = setting(
        300, "the iteration to reach; stored ones are not computed again", "iterations", **_EXTENT, ge=0, le=10**7
    )
    optimizer: Literal["lbfgs", "adam"] = setting("lbfgs", "the optimiser", **_OPTIMISER)
    learning_rate: float | None = setting(
        None, "step length; none: 1 for L-BFGS, 5 grey levels for Adam", **_OPTIMISER, gt=0, le=1000
    )
    history_size: int = setting(
        20, "how many past steps L-BFGS remembers (see nstlab.optimise)", "iterations", **_OPTIMISER, ge=1, le=200
    )
    network: str = setting("vgg19", "the network that sees the pictures (see nstlab.network)", **_NETWORK, judged=True)
    content_layers: tuple[str, ...] | None = setting(
        ("relu4_2",),
        "layers whose activations should match the content's; none: the network's own",
        family="layers",
        judged=True,
    )
    style_layers: tuple[str, ...] | None = setting(
        ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
        "layers whose Grams should match the style's; none: the network's own",
        family="layers",
        judged=True,
    )
    style_layer_weights: tuple[float, ...] | tuple[tuple[float, ...], ...] | Literal["balanced"] | None = setting(
        None,
        "one weight per style layer; none: 1 each; balanced: each layer's Gram counts equally; "
        "several styles may have their own: 1:1:0,0:0:1",
        family="layers",
    )
    style_loss: str = setting(
        "gram", "how the styles of two activations are compared (see nstlab.optimise.losses)", **_NETWORK
    )
    content_loss: str = setting("l2", "how two activations are compared: by squares or absolute values", **_NETWORK)
    pooling: Literal["max", "average"] = setting(
        "max", "how the network halves the resolution", **_NETWORK, judged=True
    )
    padding: Literal["zeros", "replicate"] = setting(
        "zeros", "what a convolution sees outside the picture: zeros, or the border's own values", **_NETWORK
    )
    weights: str | None = setting(
        "original-8bit",
        "the network's: original-8bit (vgg19), imagenet (efficientnet-lite0), torchvision (vgg19, vgg16), random, "
        "or a path; none: the network's own",
        **_NETWORK,
        judged=True,
    )
    weights_format: Literal[WEIGHTS_FORMATS] = setting(
        "auto", "the pixels that a weights file expects, if its numbers do not tell", **_NETWORK, judged=True
    )
    gates: str | None = setting(
        None,
        "features that are switched off, scaled, or replaced by their mean: relu4_1:12,40=0.5,70-79=mean;relu3_1:3, or "
        "a file with them; first:50, last:50 or random:50, by how much of the style they carry (first:50@relu4_1)",
        **_NETWORK,
    )
    reduction: str | None = setting(
        None, "how the network is made smaller; none: not at all (see nstlab.reduction)", **_REDUCTION
    )
    amount: float = setting(0.0, "the fraction of its channels that each layer loses", **_REDUCTION, ge=0, lt=1)
    angle: float | None = setting(
        None,
        "distinctiveness: merge channels closer than this, instead of an amount",
        "degrees",
        **_REDUCTION,
        gt=0,
        le=90,
    )
    refit: bool = setting(False, "whether least squares refits the next layer to make up for the loss", **_REDUCTION)
    reduced_blocks: tuple[Annotated[int, Field(ge=1, le=5)], ...] = setting(
        (1, 2, 3, 4, 5), "the blocks of the network that lose channels", **_REDUCTION
    )
    calibration: Literal["pair", "samples"] = setting(
        "pair", "the pictures to judge channels by: content and style, or eight sample pictures", **_REDUCTION
    )
    bits: int | None = setting(
        None,
        "weight sharing: each layer has at most 2^bits different weights; none: unchanged",
        "bits",
        **_REDUCTION,
        ge=1,
        le=8,
    )
    sparsity: float = setting(0.0, "weight sharing: the fraction of weights set to 0", **_REDUCTION, ge=0, lt=1)
    gradient_kept: float = setting(
        1.0, "minimal effort: the fraction of a gradient that each position passes back", **_REDUCTION, gt=0, le=1
    )
    scales: int = setting(
        1, "coarse to fine: the number of sizes, each twice the last, ending at `size`", family="optimiser", ge=1, le=6
    )
    scale_iterations: int = setting(
        60, "the iterations at each smaller size", "iterations", family="optimiser", ge=1, le=10**6
    )
    convolution: Literal["auto", "lean", "plain"] = setting(
        "auto",
        "auto: the fastest for each shape; lean: less memory, and slower; plain: torch's own, the reference",
        **_NETWORK,
    )
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32",
        "of activations and convolutions: tf32 needs a CUDA device, bfloat16 one or a CPU that has it (nstlab doctor)",
        **_NETWORK,
    )
    tile: Annotated[int, Field(ge=16, le=8192)] | Literal["auto"] | None = setting(
        None,
        "compute the picture in tiles of this side, in bounded memory (see nstlab.optimise.tiles); none: whole; "
        "auto: the largest that `memory` allows",
        "pixels",
        **_NETWORK,
    )
    memory: float | None = setting(
        None, "what tile=auto may take; none: three quarters of what the machine has", "GB", **_TILES, gt=0, le=10**6
    )
    seed: int = setting(
        0, "the seed of the white noise and all other random numbers", family="optimiser", judged=True, ge=0, lt=2**63
    )
    device: str = setting(
        "auto", "auto, cpu, cuda, cuda:1, mps", **_NETWORK, shapes=False, pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    frame_every: int | None = setting(
        None,
        "store a frame every this many iterations, besides 0, 1, 2, 5, 10, 20, 50, ...",
        "iterations",
        **_EXTENT | {"family": "optimiser"},
        ge=1,
    )

    def __init__(self, /, **values: Any) -> None:
        for name in values:
            if name not in type(self).model_fields:
                if name in OTHER_NAMES:
                    raise RequestError(f"unknown setting {name!r}: {OTHER_NAMES[name]}")
                raise unknown("setting", name, type(self).model_fields)
        if "network" in values:
            values = dict.fromkeys(OF_NETWORK) | values
        try:
            super().__init__(**values)
        except ValidationError as error:
            faults = error.errors()
            kind = RequestError if any(fault["loc"] for fault in faults) else Contradiction
            raise kind("; ".join(map(_one_line, faults))) from None
        if not own.is_reading():
            for reference in self.code.values():
                own.trust(reference)

    @classmethod
    def from_text(cls, pairs: dict[str, str], base: Settings | None = None) -> Settings:
        """Settings from text, as on a command line: lists as a,b,c; `none` for None.

        base: the other settings (None: the defaults). `as_text` is the inverse.

        >>> Settings.from_text({"style_layers": "relu1_1,relu2_1", "style_size": "none"}).style_layers
        ('relu1_1', 'relu2_1')
        """
        values = {name: None if text.lower() == "none" and _may_be_none(name) else text for name, text in pairs.items()}
        settings = base.with_(**values) if base else cls(**values)
        for name in OWN:
            if name in pairs:
                own.trust(getattr(settings, name))
        return settings

    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def with_(self, **values: Any) -> Settings:
        """These settings with some changed, validated again. Code is as trusted as it was.

        With another network, its own layers and weights replace the old one's.

        >>> Settings().with_(network="efficientnet-lite0").content_layers
        ('block3_2',)
        """
        kept = self.model_dump()
        if values.get("network", self.network) != self.network:
            before = architecture(self.network)
            own_ones = before.layers is None  # only their network has them
            kept |= {name: None for name in OF_NETWORK if own_ones or kept[name] == getattr(before, name)}
        with own.reading():
            settings = type(self)(**(kept | values))
        if not own.is_reading():
            for name in OWN:
                if name in values:
                    own.trust(getattr(settings, name))
        return settings

    @classmethod
    def over(cls, parameters: dict[str, Any], given: dict[str, Any]) -> Settings:
        """The settings of a notebook's parameters with the given values in their place; a network as in `with_`."""
        changes = given.get("network", "vgg19") != parameters.get("network", "vgg19") and "network" in given
        return cls(**parameters).with_(**given) if changes else cls(**(parameters | given))

    def k_S_at(self, iteration: int) -> float:
        """The k_S in force at an iteration, including `k_S_changes`.

        >>> settings = Settings(k_S=1000, k_S_changes="40:300")
        >>> settings.k_S_at(39), settings.k_S_at(40)
        (1000.0, 300.0)
        """
        return ([self.k_S] + [k_S for start, k_S in self.k_S_changes if start <= iteration])[-1]

    def with_k_S_from(self, iteration: int, k_S: float) -> Settings:
        """These settings with another k_S from an iteration on; what was changed before stays.

        >>> Settings(k_S=1000, k_S_changes="40:300").with_k_S_from(60, 5).k_S_changes
        ((40, 300.0), (60, 5.0))
        """
        if iteration == 0:
            return self.with_(k_S=k_S, k_S_changes=())
        earlier = self.up_to(iteration).k_S_changes
        settings = self.with_(k_S_changes=earlier)
        return settings if settings.k_S_at(iteration) == k_S else self.with_(k_S_changes=(*earlier, (iteration, k_S)))

    def up_to(self, iteration: int) -> Settings:
        """These settings for a run of so many iterations: a k_S that is changed there or later shapes no picture."""
        changes = tuple(change for change in self.k_S_changes if change[0] < iteration)
        return self.with_(iterations=iteration, k_S_changes=changes)

    def of_picture(self, iteration: int) -> Settings:
        """Only the settings that shape the picture at an iteration, as stored inside a PNG."""
        return self.up_to(iteration).with_(frame_every=None, device="auto")

    def size_at(self, iteration: int) -> int:
        """The longer side of the picture at an iteration, in pixels; with `scales` it starts smaller.

        >>> [Settings(size=256, scales=3, scale_iterations=60).size_at(k) for k in (0, 59, 60, 120, 500)]
        [64, 64, 128, 256, 256]
        """
        smaller = max(self.scales - 1 - iteration // self.scale_iterations, 0)
        return max(round(self.size / 2**smaller), 1)

    @property
    def styles(self) -> tuple[str, ...]:
        """The style pictures, one or several."""
        return (self.style,) if isinstance(self.style, str) else self.style

    @property
    def proportions(self) -> tuple[float, ...]:
        """v_j, how much each style counts; they sum to 1.

        >>> Settings(style="swirl,waves", style_weights=(3, 1)).proportions
        (0.75, 0.25)
        """
        chosen = self.style_weights or (1.0,) * len(self.styles)
        return tuple(weight / sum(chosen) for weight in chosen)

    @property
    def files(self) -> dict[str, str]:
        """The pictures that a run reads, by role: content, style, style_2, ..., masks, and init if it is a path.

        >>> Settings(style="swirl,waves", content_masks="sky,none").files
        {'content': 'astronaut', 'style': 'swirl', 'style_2': 'waves', 'content_mask_1': 'sky'}
        """
        found = {"content": self.content}
        found |= {"style" if j == 1 else f"style_{j}": name for j, name in enumerate(self.styles, start=1)}
        for role in ("content_mask", "style_mask"):
            masks = enumerate(getattr(self, f"{role}s") or (), start=1)
            found |= {f"{role}_{j}": mask for j, mask in masks if mask is not None}
        is_picture = Path(self.init).is_absolute() and "init" not in self.code
        return found | ({"init": self.init} if is_picture else {})

    @property
    def code(self) -> dict[str, str]:
        """The settings that name code of the user's own, each with its `path/to/mine.py:name`."""
        return {name: getattr(self, name) for name in OWN if own.is_own(getattr(self, name))}

    @property
    def draws(self) -> bool:
        """Whether something of the run is drawn from `seed`, as it may be by code of one's own.

        >>> Settings().draws, Settings(init="white_noise").draws, Settings(gates="random:50").draws
        (False, True, True)
        """
        chosen = parse_chosen(self.gates)
        named = any(name in self.code or getattr(self, name) in values for name, values in DRAWN.items())
        return named or bool(chosen and chosen[0] == "random")

    @property
    def command(self) -> str:
        """The command line that computes these settings.

        >>> print(Settings(k_S=300).command)
        nstlab run --content astronaut --style swirl --set k_S=300
        """
        words = ["nstlab", "run", "--content", self.content, "--style", as_text(self.style)]
        for name, value in self.changed().items():
            if name not in ("content", "style"):
                words += ["--set", f"{name}={as_text(value)}"]
        return shell_words(words)

    def term_weights(self, iteration: int = 0) -> dict[str, float]:
        """The weights of the loss terms at an iteration, by name; content's is 1.

        >>> Settings(k_S=300).term_weights()
        {'content': 1.0, 'style': 300.0, 'tv': 0.0}
        """
        weights = {"content": 1.0} | {knob(name).term: getattr(self, name) for name in names_where(term=True)}
        return weights | {"style": self.k_S_at(iteration)}

    @property
    def terms_off(self) -> frozenset[str]:
        """The loss terms that are left out: their weight is 0, as it is by default."""
        fields = type(self).model_fields
        knobs = [name for name in names_where(term=True) if fields[name].default == 0 == getattr(self, name)]
        return frozenset(knob(name).term for name in knobs)

    def terms_in(self, columns: Iterable[str]) -> dict[str, str]:
        """The terms among the columns of a history, each with a figure's label for it, weight included.

        >>> Settings().terms_in(["iteration", "seconds", "total", "content", "style", "relu1_1"])
        {'content': 'content', 'style': 'k_S · style'}
        """
        weighed = {knob(name).term: f"{name} · {knob(name).term}" for name in names_where(term=True)}
        others = {"iteration", "seconds", "total", *(self.style_layers or ())}
        return {name: weighed.get(name, name) for name in columns if name not in others}

    @property
    def step_length(self) -> float:
        """The learning rate in force: `learning_rate`, or the optimiser's default."""
        return self.learning_rate or LEARNING_RATES[self.optimizer]


def knob(name: str) -> Knob:
    """What a setting's declaration says."""
    return Settings.model_fields[name].json_schema_extra["knob"]


def choices(name: str) -> tuple[str, ...]:
    """The names that a setting can take; () for a setting without names, such as a number.

    >>> choices("optimizer"), choices("size")
    (('lbfgs', 'adam'), ())
    """
    kind = Settings.model_fields[name].annotation
    return tuple(named(name)) if name in NAMED else get_args(kind) if get_origin(kind) is Literal else ()


def names_where(**wanted: Any) -> tuple[str, ...]:
    """The settings, in order of declaration, whose Knob has these values (True: any value that is true).

    >>> names_where(shapes=False), names_where(term=True)
    (('iterations', 'memory', 'device', 'frame_every'), ('k_S', 'k_TV'))
    """

    def fits(value: Any, asked: Any) -> bool:
        return bool(value) if asked is True else value == asked

    return tuple(n for n in Settings.model_fields if all(fits(getattr(knob(n), k), v) for k, v in wanted.items()))


def _may_be_none(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and type(None) in get_args(field.annotation)


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
    except (ValueError, RecursionError):  # an integer of more than 4300 digits, a list that contains itself
        value = type(fault["input"]).__name__
    return f"{name} = {value[:80]}: {message}"
