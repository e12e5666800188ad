"""The controls, one for each setting that can be chosen, from Settings' own ranges and descriptions."""

from __future__ import annotations

from typing import Any, get_args

import ipywidgets as w
import torch

from nstlab.images import catalogue, sample_pictures
from nstlab.settings import INITIAL_VALUES, REDUCTIONS, WEIGHTS, RequestError, Settings, layer_names
from nstlab.widgets.parts import LayerChoice, LogNumber, PictureChoice
from nstlab.widgets.pictures import thumbnail

INITIAL_CAPTIONS = {"white_noise": "noise", "content": "content", "style": "style", "average": "average"}
REDUCTION = ("amount", "angle", "refit", "reduced_blocks", "calibration", "bits", "sparsity", "gradient_kept")
WHOLE_NUMBERS = ("size", "iterations", "history_size", "scales", "scale_iterations", "seed")
DROPDOWNS = ("optimizer", "pooling", "style_loss", "content_loss", "calibration", "convolution", "precision")
DROPDOWNS += ("weights_format",)
FREE_TEXT = ("style_size", "learning_rate", "frame_every", "style_layer_weights", "weights")  # empty: the default
FREE_TEXT += ("amount", "angle", "reduced_blocks", "bits", "sparsity", "gradient_kept")
CHANGE_WHILE_RUNNING = ("k_S",)
CHANGE_WHILE_PAUSED = ("k_S", "iterations", "frame_every", "device")


def about(name: str) -> str:
    """What a setting means, with its unit: the description of its control."""
    field = Settings.model_fields[name]
    unit = (field.json_schema_extra or {}).get("unit")
    return f"{name}: {field.description}" + (f" ({unit})" if unit else "")


def make_controls() -> dict[str, Any]:
    """Name of the setting -> its control; each has a `value`."""
    low, high = Settings.model_fields["k_S"].json_schema_extra["slider"]
    controls: dict[str, Any] = {kind: _pictures(kind) for kind in ("content", "style")}
    controls["init"] = PictureChoice(
        label="Initial value",
        help=about("init"),
        options=list(INITIAL_VALUES),
        captions={name: name.replace("_", " ") for name in INITIAL_VALUES} | INITIAL_CAPTIONS,
        columns=7,
        captioned=True,
    )
    controls["k_S"] = LogNumber(
        label="k_S, weight of style", help=about("k_S"), min=low, max=high, ends=["photograph", "painting"]
    )
    for name in WHOLE_NUMBERS:
        controls[name] = _whole_number(name)
    for name in DROPDOWNS:
        controls[name] = _dropdown(name, [(_words(value), value) for value in _choices(name)])
    controls["reduction"] = _dropdown("reduction", [("none", None), *((_words(value), value) for value in REDUCTIONS)])
    controls["refit"] = w.Checkbox(description="refit", tooltip=about("refit"), indent=False)
    controls["device"] = _dropdown("device", devices())
    for name in ("content_layers", "style_layers"):
        controls[name] = LayerChoice(label=_words(name), help=about(name), options=list(layer_names()))
    hints = {"style_layer_weights": "1 each; or balanced; or 1, 0.5, …", "style_size": "as size"}
    hints |= {"learning_rate": "the default", "frame_every": "1, 2, 5, 10, 20, …"}
    hints |= {"amount": "0", "angle": "none", "reduced_blocks": "1, 2, 3, 4, 5", "bits": "as they are"}
    hints |= {"sparsity": "0", "gradient_kept": "1"}
    for name in hints:
        controls[name] = w.Text(description=_words(name), tooltip=about(name), placeholder=hints[name])
    controls["weights"] = w.Combobox(description="weights", tooltip=about("weights"), options=list(WEIGHTS))
    for name in (*FREE_TEXT, *WHOLE_NUMBERS):
        controls[name].continuous_update = False
    for name, control in controls.items():
        control.add_class(f"nst-set-{name}")
    write(controls, _start(controls))
    return controls


def _start(controls: dict[str, Any]) -> Settings:
    """The default settings, with the first pictures that there are if the default ones are missing."""
    settings = Settings()
    offered = {kind: controls[kind].options for kind in ("content", "style")}
    missing = {kind: names[0] for kind, names in offered.items() if names and getattr(settings, kind) not in names}
    return settings.with_(**missing)


def read(controls: dict[str, Any]) -> Settings:
    """The settings as the controls have them. Raises RequestError for a value out of range."""
    values = {name: control.value for name, control in controls.items()}
    for name in FREE_TEXT:
        if not values[name].strip():
            del values[name]
    return Settings(**values)


def write(controls: dict[str, Any], settings: Settings) -> None:
    """Set all controls to these settings; k_S to the one in force at the end."""
    for name, control in controls.items():
        value = getattr(settings, name)
        if name == "k_S":
            value = settings.k_S_at(settings.iterations)
        if isinstance(control, PictureChoice) and value not in control.options:
            add_picture(control, value)
        if isinstance(control, w.Dropdown) and value not in [option[1] for option in control.options]:
            value = "auto"  # a device that is not there
        if name in FREE_TEXT:
            at_default = name in REDUCTION and value == Settings.model_fields[name].default
            control.value = "" if at_default else _as_text(value)
        else:
            control.value = list(value) if isinstance(value, tuple) else value


def add_picture(control: PictureChoice, path: str) -> None:
    """Offer one more picture. Raises RequestError if it cannot be read."""
    control.thumbnails = {**control.thumbnails, path: thumbnail(path)}
    control.captions = {**control.captions, path: path.replace("\\", "/").rpartition("/")[2]}
    control.options = [*control.options, path]


def devices() -> list[tuple[str, str]]:
    """What there is to compute on: the CPU, and GPUs if any; auto takes the best."""
    found = [("auto", "auto"), ("CPU", "cpu")]
    if torch.cuda.is_available():
        found += [
            (torch.cuda.get_device_name(i), f"cuda:{i}" if i else "cuda") for i in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append(("MPS", "mps"))
    return found


def _pictures(kind: str) -> PictureChoice:
    other = {"content": "style", "style": "content"}[kind]
    names = [*sample_pictures(kind), *(name for name in sample_pictures(other) if name not in sample_pictures(kind))]
    names = list(sample_pictures(kind)) or names
    titles = {row["name"]: row["title"] for row in catalogue()}
    thumbnails = {}
    for name in names:
        try:
            thumbnails[name] = thumbnail(name)
        except (RequestError, OSError):
            continue  # a damaged file in data/ is not offered
    return PictureChoice(
        label=kind.capitalize(),
        help=about(kind),
        options=list(thumbnails),
        thumbnails=thumbnails,
        captions={name: f"{name}: {titles[name]}" if name in titles else name for name in thumbnails},
        accepts_files=True,
    )


def _whole_number(name: str) -> w.BoundedIntText:
    field = Settings.model_fields[name]
    bounds = {type(limit).__name__: limit for limit in field.metadata}
    low = bounds["Ge"].ge
    high = bounds["Le"].le if "Le" in bounds else bounds["Lt"].lt - 1
    step = 16 if name == "size" else 50 if name == "iterations" else 1
    high = min(high, 2**53)  # a browser's numbers end there
    return w.BoundedIntText(description=_words(name), tooltip=about(name), min=low, max=high, step=step)


def _dropdown(name: str, options: list[tuple[str, str]]) -> w.Dropdown:
    return w.Dropdown(description=_words(name), tooltip=about(name), options=options)


def _choices(name: str) -> tuple[str, ...]:
    return get_args(Settings.model_fields[name].annotation)


def _words(name: str) -> str:
    return {"lbfgs": "L-BFGS", "adam": "Adam", "gram": "Gram", "gram_l1": "Gram, L1", "l1": "L1", "l2": "L2"}.get(
        name, name.replace("_", " ")
    )


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value}"
