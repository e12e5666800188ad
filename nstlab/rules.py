"""What the values of settings must be besides their types: each alone, then together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationInfo, field_validator, model_validator

from nstlab import own
from nstlab.errors import unknown
from nstlab.gates import MEAN, gates_as_text, parse_chosen, parse_gates
from nstlab.knobs import NAMED, OWN, named
from nstlab.layers import ARCHITECTURES, NOT_EVERY_NETWORK, Architecture, architecture, layer_features
from nstlab.values import flattened, name_or_path, split_names

PATHS_TOO = {"weights": "a .pth or .safetensors file", "init": "a picture, or path/to/mine.py:name"}
"""Settings whose value may also be the path of a file."""

OF_NETWORK = ("content_layers", "style_layers", "weights")
"""Settings of which each network has its own values: VGG19's are the defaults, and None stands for the network's."""

_each = partial(field_validator, check_fields=False)  # the fields are those of Settings


class Rules(BaseModel):
    """The validators of `nstlab.settings.Settings`, whose fields they check and bring to one form."""

    @_each("k_S_changes", mode="before")
    @classmethod
    def _split_changes(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(tuple(change.strip().split(":")) for change in value.split(",") if change.strip())
        return value

    @_each("k_S_changes")
    @classmethod
    def _in_order(cls, changes: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        iterations = [iteration for iteration, _ in changes]
        if iterations != sorted(set(iterations)) or (iterations and iterations[0] < 1):
            raise ValueError("the iterations of the changes must start at 1 or later and increase")
        return changes

    @_each("content_layers", "style_layers", "style_layer_weights", "style_weights", "reduced_blocks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "balanced":
            parts = tuple(part.strip() for part in value.split(",") if part.strip())
            return tuple(tuple(part.split(":")) for part in parts) if ":" in value else parts
        return value

    @_each("style", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        names = split_names(value)
        return names[0] if isinstance(names, tuple) and len(names) == 1 else names

    @_each("content_masks", "style_masks", mode="before")
    @classmethod
    def _masks(cls, value: Any) -> Any:
        names = split_names(value)
        names = (names,) if isinstance(names, str) else names
        return tuple(None if n == "none" else n for n in names) if isinstance(names, (list, tuple)) else names

    @_each("content_masks", "style_masks")
    @classmethod
    def _some_mask(cls, masks: tuple[str | None, ...] | None) -> tuple[str | None, ...] | None:
        masks = tuple(mask and name_or_path(mask) for mask in masks or ())
        return masks if any(masks) else None

    @_each("style_layer_weights")
    @classmethod
    def _not_negative(cls, weights: Any) -> Any:
        if isinstance(weights, tuple) and min(flattened(weights), default=0.0) < 0:
            raise ValueError("must not be negative")
        return weights

    @_each(*OF_NETWORK, mode="before")
    @classmethod
    def _of_network(cls, value: Any, info: ValidationInfo) -> Any:
        """None is the network's own."""
        return getattr(_network_in(info), info.field_name) if value is None else value

    @_each("content_layers", "style_layers")
    @classmethod
    def _known_layers(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        known = _network_in(info).layers
        for name in (names or ()) if known is not None else ():
            if name not in known:
                raise ValueError(str(unknown("layer", name, known)))
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"a layer is named twice in {', '.join(names)}")
        return names

    @_each("content", "style", "weights")
    @classmethod
    def _absolute(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return name_or_path(value) if isinstance(value, str) else tuple(map(name_or_path, value))

    @_each("gates", mode="before")
    @classmethod
    def _gates(cls, value: Any, info: ValidationInfo) -> str | None:
        """As text in one form, so that the same gates are the same run; the content of a file."""
        known = layer_features(info.data.get("network", "vgg19"))
        if chosen := parse_chosen(value):
            order, count, layer = chosen
            if layer is not None and known is not None and layer not in known:
                raise ValueError(str(unknown("layer", layer, known)))
            return f"{order}:{count}" + (f"@{layer}" if layer else "") if count else None
        gates = parse_gates(value)
        for layer, of_layer in gates.items() if known is not None else ():
            if layer not in known:
                raise ValueError(str(unknown("layer", layer, known)))
            if max(of_layer) >= known[layer]:
                raise ValueError(f"{layer} has features 0 to {known[layer] - 1}, not {max(of_layer)}")
        ordered = sorted(gates, key=list(known).index) if known is not None else sorted(gates)
        return gates_as_text({layer: gates[layer] for layer in ordered}) or None

    @_each(*OWN)
    @classmethod
    def _own(cls, value: str) -> str:
        return own.absolute(value) if own.is_own(value) else value

    @_each("init")
    @classmethod
    def _initial_picture(cls, value: str) -> str:
        return name_or_path(value)

    @_each(*NAMED)
    @classmethod
    def _named(cls, value: str | None, info: ValidationInfo) -> str | None:
        """A name in NAMED's dictionary; the default is accepted without importing it."""
        name = info.field_name
        if name == "weights":
            known = _network_in(info).known_weights
        elif value == cls.model_fields[name].default or own.is_own(value):
            return value
        else:
            known = named(name)
        if value in known:
            return value
        if name == "weights" and own.is_own(info.data.get("network")):
            raise ValueError(f"{own.parts(info.data['network'])[1]} makes its own weights (weights=own)")
        if name in PATHS_TOO:
            if Path(value).is_absolute():
                return value
            raise ValueError(f"{unknown(name, value, known)} (or the path of {PATHS_TOO[name]})")
        more = " (or path/to/mine.py:name)" if name in OWN else ""
        raise ValueError(f"{unknown(name.replace('_', ' '), value, known)}{more}")

    @model_validator(mode="after")
    def _agree(self) -> Rules:
        smallest = min(self.size, self.style_size or self.size) / 2 ** (self.scales - 1)
        if self.scales > 1 and smallest < 32:
            raise ValueError(f"scales = {self.scales}: the smallest size would be under 32 pixels")
        if self.content_layers == () == self.style_layers:
            raise ValueError("content_layers and style_layers are both empty: there is nothing to optimise")
        if self.weights_format != "auto" and not Path(self.weights).is_absolute():
            raise ValueError(f"weights_format = {self.weights_format}: needs weights = the path of a file")
        weights = self.style_layer_weights
        if isinstance(weights, tuple):
            rows = weights if weights and isinstance(weights[0], tuple) else (weights,)
            if len(rows) not in (1, len(self.styles)):
                raise ValueError(f"style_layer_weights of {len(rows)} styles for {len(self.styles)}")
            for row in rows if self.style_layers is not None else ():
                if len(row) != len(self.style_layers):
                    raise ValueError(f"{len(row)} style_layer_weights for {len(self.style_layers)} style layers")
        return self

    @model_validator(mode="after")
    def _gates_agree(self) -> Rules:
        if self.gates and self.reduction:
            raise ValueError("gates number the features of the whole network: they do not go with a reduction")
        if self.gates and self.tile and (MEAN in self.gates or parse_chosen(self.gates)):
            raise ValueError("gates: neither a mean nor a choice of features can be made from tiles: leave tile out")
        known, chosen = layer_features(self.network), parse_chosen(self.gates)
        if known and chosen:
            _, count, layer = chosen
            if count > (most := sum(known[name] for name in ([layer] if layer else self.style_layers))):
                raise ValueError(f"gates = {self.gates}: there are {most} features")
        return self

    @model_validator(mode="after")
    def _fits_the_network(self) -> Rules:
        """A setting that depends on how a network is built may be changed only with one that is built so."""
        takes, changed = architecture(self.network).takes, self.changed()
        for name in (name for name in NOT_EVERY_NETWORK if name in changed and name not in takes):
            owners = " or ".join(network for network, known in ARCHITECTURES.items() if name in known.takes)
            raise ValueError(f"{name} = {changed[name]}: {self.network} has none, it needs network = {owners}")
        return self

    @model_validator(mode="after")
    def _one_a_style(self) -> Rules:
        """What is given for each style is given for every one."""
        for name in ("style_weights", "content_masks", "style_masks"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.styles):
                raise ValueError(f"{len(given)} {name} for {len(self.styles)} style(s): {', '.join(self.styles)}")
        if self.style_weights is not None and not any(self.style_weights):
            raise ValueError("style_weights are all 0: there is no style (style_layers= leaves the style loss out)")
        return self

    @model_validator(mode="after")
    def _reduces(self) -> Rules:
        """A reduction's knob may be changed only with a reduction that has it."""
        changed = self.changed()
        declared = {name: field.json_schema_extra["knob"] for name, field in type(self).model_fields.items()}
        knobs = [name for name, knob in declared.items() if knob.family == "reduction" and name != "reduction"]
        for name in (name for name in knobs if name in changed):
            techniques = named("reduction")
            if self.reduction is None or name not in techniques[self.reduction].knobs:
                owners = " or ".join(owner for owner, technique in techniques.items() if name in technique.knobs)
                chosen = f"not {self.reduction}" if self.reduction else "and there is none"
                raise ValueError(f"{name} = {getattr(self, name)}: needs reduction = {owners}, {chosen}")
        if self.angle is not None and self.amount > 0:
            raise ValueError("angle and amount both say where merging stops: give one of them")
        if len(set(self.reduced_blocks)) < len(self.reduced_blocks) or not self.reduced_blocks:
            raise ValueError("reduced_blocks must name at least one of the blocks 1 to 5, each once")
        return self


def _network_in(info: ValidationInfo) -> Architecture:
    """The network of settings that are being validated; VGG19 in place of one that was refused."""
    return architecture(info.data.get("network", "vgg19"))
