"""Records in, matplotlib figures out; nothing is computed here."""

from nstlab.plots.features import box_colours, feature_card, overlay_png, png, position_card
from nstlab.plots.layers import (
    comparison,
    contact_sheet,
    layer_card,
    layer_profile,
    network,
    receptive_fields,
    scale,
)
from nstlab.plots.pictures import film_strip, losses, pictures, save_figure, triptych
from nstlab.plots.reconstructions import favourites, gradient_shares, reconstruction_quality, reconstructions
from nstlab.plots.sweeps import (
    clusters,
    knob_sensitivity,
    loss_surfaces,
    save_sheet,
    sweep_sheets,
    trade_off,
    value_label,
)

__all__ = [
    "box_colours",
    "clusters",
    "comparison",
    "contact_sheet",
    "favourites",
    "feature_card",
    "film_strip",
    "gradient_shares",
    "knob_sensitivity",
    "layer_card",
    "layer_profile",
    "loss_surfaces",
    "losses",
    "network",
    "overlay_png",
    "pictures",
    "png",
    "position_card",
    "receptive_fields",
    "reconstruction_quality",
    "reconstructions",
    "save_figure",
    "save_sheet",
    "scale",
    "sweep_sheets",
    "trade_off",
    "triptych",
    "value_label",
]
