"""The controls, one per setting, with the ranges and descriptions from Settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets as w
import torch

from nstlab import own
from nstlab.errors import RequestError
from nstlab.images import catalogue, sample_pictures
from nstlab.layers import architecture
from nstlab.network import layers_of
from nstlab.optimise import with_own_layers
from nstlab.settings import Settings, as_text, choices, knob, names_where
from nstlab.widgets.painting import Painter
from nstlab.widgets.parts import LayerChoice, LogNumber, PictureChoice
from nstlab.widgets.pictures import thumbnail
from nstlab.widgets.styles import Proportions, StyleChoice

INITIAL_CAPTIONS = {"white_noise": "noise"}  # short enough for a tile
WORDS = {"lbfgs": "L-BFGS", "adam": "Adam", "gram": "Gram", "gram_l1": "Gram, L1", "l1": "L1", "l2": "L2"}
HINTS = {"style_layer_weights": "1 each; or balanced; or 1, 0.5, …", "style_size": "same as size"}
HINTS |= {"learning_rate": "the default", "frame_every": "1, 2, 5, 10, 20, …", "bits": "unchanged"}
HINTS |= {"style_masks": "none; or a picture a style", "gates": "relu4_1:12,40=0.5,70-79=mean"}
OWN_LOOKS = {"network": own.takes(0), "style_loss": own.makes("StyleLoss"), "content_loss": own.takes(2)}
"""Settings whose control also takes code of one's own -> what that looks like in a file."""
COLOURS = {
    "style": ("the style's", "those of the style, as the loss has them"),
    "matched": ("matched", "the content's: the style is given them beforehand"),
    "luminance": ("luminance", "the content's: only light and dark are painted"),
    "recombined": ("recombined", "the content's, with light and dark of the painting"),
}
"""A way to treat colour -> its caption, and what it does."""
STEPS = {"size": 16, "iterations": 50}  # of the little arrows
MARKS = [0.01, 0.1, 1, 10, 100, 1000]
"""k_S where pictures change. Measured from the content picture, 96 pixels and 80 iterations, two pairs: a decade
between two of these moves the picture by 14 to 43 grey levels (rmse), one beyond them by 12 to 14."""
CHANGE_WHILE_RUNNING = ("k_S",)
CHANGE_WHILE_PAUSED = ("k_S", *names_where(shapes=False))


def about(name: str) -> str:
    """What a setting means, with its unit: its control's description."""
    field = Settings.model_fields[name]
    unit = knob(name).unit
    return f"{name}: {field.description}" + (f" ({unit})" if unit else "")


def make_controls() -> dict[str, Any]:
    """Setting -> its control; each has a `value`."""
    controls: dict[str, Any] = {"content": PictureChoice(**_pictures("content"), accepts_files=True)}
    controls["style"] = StyleChoice(**_pictures("style"))
    controls["style_weights"] = Proportions("Proportion", about("style_weights"))
    controls["content_masks"] = Painter("Content masks", about("content_masks"))
    controls["init"] = PictureChoice(
        label="Initial value",
        help=about("init"),
        options=list(choices("init")),
        captions={name: _words(name) for name in choices("init")} | INITIAL_CAPTIONS,
        columns=7,
        captioned=True,
        accepts_files=True,
    )
    controls["colour"] = PictureChoice(
        label="Colour",
        help=about("colour"),
        options=list(choices("colour")),
        captions={name: caption for name, (caption, _) in COLOURS.items()},
        meanings={name: meaning for name, (_, meaning) in COLOURS.items()},
        columns=4,
        captioned=True,
    )
    low, high = knob("k_S").slider
    controls["k_S"] = LogNumber(
        label="k_S, weight of style",
        help=about("k_S"),
        min=low,
        max=high,
        ends=["photograph", "painting"],
        marks=MARKS,
    )
    controls["device"] = _dropdown("device", devices())
    controls["weights"] = w.Combobox(description="weights", tooltip=about("weights"), options=choices("weights"))
    for name, looks in OWN_LOOKS.items():
        offered = [*choices(name), *own.candidates(Path.cwd(), looks)]
        controls[name] = w.Combobox(
            description=_words(name), tooltip=about(name), placeholder="or mine.py:name", options=offered
        )
    for name in Settings.model_fields:
        if name not in controls and name != "k_S_changes":
            controls[name] = _control(name)
    for name, control in controls.items():
        control.add_class(f"nst-set-{name}")
    write(controls, _start(controls))
    return controls


def _start(controls: dict[str, Any]) -> Settings:
    """The default settings, but with the first available pictures if the default ones are missing."""
    settings = Settings()
    offered = {kind: controls[kind].options for kind in ("content", "style")}
    missing = {kind: names[0] for kind, names in offered.items() if names and getattr(settings, kind) not in names}
    return settings.with_(**missing)


def read(controls: dict[str, Any]) -> Settings:
    """The settings that the controls show. Raises RequestError for a value out of range."""
    values = {name: control.value for name, control in controls.items()}
    with own.reading():  # what is typed is trusted where it is typed
        return Settings(
            **{name: value for name, value in values.items() if not (_is_text(controls[name]) and not value.strip())}
        )


def write(controls: dict[str, Any], settings: Settings) -> None:
    """Set all controls to these settings; k_S to its last value."""
    controls["content_masks"].content = settings.content
    for name in ("content_masks", "style_weights"):
        controls[name].styles = settings.styles
    offered = layers_offered(settings)
    settings = with_own_layers(settings) if offered else settings
    for name, control in controls.items():
        value = getattr(settings, name)
        if name == "k_S":
            value = settings.k_S_at(settings.iterations)
        if isinstance(control, (PictureChoice, StyleChoice)):
            offer(control, value)
        if isinstance(control, LayerChoice):
            control.value, control.options = [], offered
        if isinstance(control, w.Dropdown) and value not in [option[1] for option in control.options]:
            value = "auto"  # the device is not available
        if _is_text(control):
            at_default = not isinstance(control, w.Combobox) and value == Settings.model_fields[name].default
            control.value = "" if at_default else as_text(value)
        else:
            control.value = list(value or ()) if isinstance(control, LayerChoice) else value


def layers_offered(settings: Settings) -> list[str]:
    """The layers of the settings' network; loads one of the user's own, if it is trusted."""
    if own.is_own(settings.network) and not own.is_trusted(settings.network):
        return sorted({*(settings.content_layers or ()), *(settings.style_layers or ())})
    return list(architecture(settings.network).layers or [layer.name for layer in layers_of(settings.network)])


def follow(controls: dict[str, Any]) -> None:
    """What is given for each style, or for the content, follows the pictures chosen. Raises RequestError, OSError."""
    styles = controls["style"].names
    controls["style_weights"].follow(styles)
    masks = [mask for mask in controls["style_masks"].value.split(",") if mask.strip()]
    if masks and len(masks) != len(styles):
        controls["style_masks"].value = ",".join([*masks, *["none"] * len(styles)][: len(styles)])
    controls["content_masks"].follow(controls["content"].value, styles)


def offer(control: PictureChoice | StyleChoice, value: str | tuple[str, ...]) -> None:
    """Offer the pictures of a value, too. Raises RequestError if one cannot be read."""
    for choice in control.choices if isinstance(control, StyleChoice) else [control]:
        for name in (value,) if isinstance(value, str) else value:
            if name not in choice.options:
                add_picture(choice, name)


def add_picture(control: PictureChoice, path: str) -> None:
    """Offer another picture. Raises RequestError if it cannot be read."""
    if not own.is_own(path):
        control.thumbnails = {**control.thumbnails, path: thumbnail(path)}
    control.captions = {**control.captions, path: path.replace("\\", "/").rpartition("/")[2]}
    control.options = [*control.options, path]


def devices() -> list[tuple[str, str]]:
    """The available devices: the CPU, and GPUs if any; auto takes the best."""
    found = [("auto", "auto"), ("CPU", "cpu")]
    if torch.cuda.is_available():
        found += [
            (torch.cuda.get_device_name(i), f"cuda:{i}" if i else "cuda") for i in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append(("MPS", "mps"))
    return found


def _pictures(kind: str) -> dict[str, Any]:
    """What a control offers: the sample pictures of a kind, as thumbnails."""
    titles = {row["name"]: row["title"] for row in catalogue()}
    thumbnails = {}
    for name in sample_pictures(kind) or sample_pictures():
        try:
            thumbnails[name] = thumbnail(name)
        except (RequestError, OSError):
            continue  # a damaged file in data/ is not offered
    captions = {name: f"{name}: {titles[name]}" if name in titles else name for name in thumbnails}
    offered = {"options": list(thumbnails), "thumbnails": thumbnails, "captions": captions}
    return {"label": kind.capitalize(), "help": about(kind), **offered}


def _control(name: str) -> Any:
    """The control for a setting, by its declaration; an empty text means the default."""
    field = Settings.model_fields[name]
    kind, default = field.annotation, field.default
    if names := choices(name):
        none = [("none", None)] if default is None else []
        return _dropdown(name, [*none, *((_words(value), value) for value in names)])
    if name.endswith("_layers"):
        return LayerChoice(label=_words(name), help=about(name))
    if kind is bool:
        return w.Checkbox(description=_words(name), tooltip=about(name), indent=False)
    if kind is int:
        return _whole_number(name)
    if knob(name).term:
        limits = knob(name).limits
        limits = {"min": limits["ge"], "max": limits["le"]}
        return w.BoundedFloatText(description=name, tooltip=about(name), continuous_update=False, **limits)
    hint = HINTS.get(name, as_text(default).replace(",", ", "))
    return w.Text(description=_words(name), tooltip=about(name), placeholder=hint, continuous_update=False)


def _is_text(control: Any) -> bool:
    return isinstance(control, (w.Text, w.Combobox))


def _whole_number(name: str) -> w.BoundedIntText:
    limits = knob(name).limits
    high = min(limits["le"] if "le" in limits else limits["lt"] - 1, 2**53)  # a browser's numbers end there
    options = {"description": _words(name), "tooltip": about(name), "step": STEPS.get(name, 1)}
    return w.BoundedIntText(min=limits["ge"], max=high, continuous_update=False, **options)


def _dropdown(name: str, options: list[tuple[str, Any]]) -> w.Dropdown:
    return w.Dropdown(description=_words(name), tooltip=about(name), options=options)


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))
